#include "assembly/c_struct.h"

namespace faultline {

faultline_status ToCStatus(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return FAULTLINE_OK;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return FAULTLINE_INVALID_ARGUMENT;
    case absl::StatusCode::kNotFound:
      return FAULTLINE_NOT_FOUND;
    case absl::StatusCode::kAlreadyExists:
      return FAULTLINE_ALREADY_EXISTS;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return FAULTLINE_PERMISSION_DENIED;
    case absl::StatusCode::kResourceExhausted:
      return FAULTLINE_RESOURCE_EXHAUSTED;
    case absl::StatusCode::kFailedPrecondition:
      return FAULTLINE_FAILED_PRECONDITION;
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kAborted:
      return FAULTLINE_CANCELLED;
    case absl::StatusCode::kUnavailable:
      return FAULTLINE_UNAVAILABLE;
    case absl::StatusCode::kDeadlineExceeded:
      return FAULTLINE_DEADLINE_EXCEEDED;
    case absl::StatusCode::kUnimplemented:
      return FAULTLINE_UNSUPPORTED;
    default:
      return FAULTLINE_INTERNAL;
  }
}

absl::Status FromCStatus(faultline_status status, const std::string& message) {
  switch (status) {
    case FAULTLINE_OK:
      return absl::OkStatus();
    case FAULTLINE_INVALID_ARGUMENT:
      return absl::InvalidArgumentError(message);
    case FAULTLINE_NOT_FOUND:
      return absl::NotFoundError(message);
    case FAULTLINE_ALREADY_EXISTS:
      return absl::AlreadyExistsError(message);
    case FAULTLINE_PERMISSION_DENIED:
      return absl::PermissionDeniedError(message);
    case FAULTLINE_RESOURCE_EXHAUSTED:
      return absl::ResourceExhaustedError(message);
    case FAULTLINE_FAILED_PRECONDITION:
      return absl::FailedPreconditionError(message);
    case FAULTLINE_CANCELLED:
      return absl::CancelledError(message);
    case FAULTLINE_UNAVAILABLE:
      return absl::UnavailableError(message);
    case FAULTLINE_DEADLINE_EXCEEDED:
      return absl::DeadlineExceededError(message);
    case FAULTLINE_UNSUPPORTED:
      return absl::UnimplementedError(message);
    default:
      return absl::InternalError(message);
  }
}

faultline_status ReportStatus(const absl::Status& status, faultline_error* error) {
  faultline_error value{};
  value.struct_size = sizeof value;
  value.status = ToCStatus(status.code());
  CopyText(MessageOf(status), value.message);
  WriteStruct(value, error);
  return value.status;
}

}  // namespace faultline
