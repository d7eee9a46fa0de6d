#include "kernels/reference/reference_ops.h"

namespace redline {

std::unique_ptr<Ops> make_reference_ops() { return std::make_unique<BasicReferenceOps<double>>(); }

}  // namespace redline
