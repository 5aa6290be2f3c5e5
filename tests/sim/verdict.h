// How a migration may end, given what happened to it: the rules of docs/failures.md.
#ifndef FAULTLINE_TESTS_SIM_VERDICT_H_
#define FAULTLINE_TESTS_SIM_VERDICT_H_

namespace faultline::sim {

class World;

// Looks at a world in which all is quiet, and reports the first thing that is wrong to its watch.
void Judge(World& world);

}  // namespace faultline::sim

#endif  // FAULTLINE_TESTS_SIM_VERDICT_H_
