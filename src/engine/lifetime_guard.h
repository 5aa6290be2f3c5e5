// Callbacks that do nothing once their owner is gone.
#ifndef FAULTLINE_ENGINE_LIFETIME_GUARD_H_
#define FAULTLINE_ENGINE_LIFETIME_GUARD_H_

#include <memory>
#include <utility>

namespace faultline {

// A member of whoever gives callbacks away to parts that outlive it: an operation may be under way
// when a session ends. The owner dies on the thread on which the callbacks run.
class LifetimeGuard {
 public:
  LifetimeGuard() = default;
  LifetimeGuard(const LifetimeGuard&) = delete;
  LifetimeGuard& operator=(const LifetimeGuard&) = delete;

  // `callback`, for as long as this guard lives.
  template <typename Callback>
  auto Wrap(Callback callback) const {
    return [alive = std::weak_ptr<const bool>(alive_),
            callback = std::move(callback)](auto&&... arguments) mutable {
      if (!alive.expired()) callback(std::forward<decltype(arguments)>(arguments)...);
    };
  }

 private:
  const std::shared_ptr<const bool> alive_ = std::make_shared<const bool>(true);
};

}  // namespace faultline

#endif  // FAULTLINE_ENGINE_LIFETIME_GUARD_H_
