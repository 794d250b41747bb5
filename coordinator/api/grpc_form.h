// What a gRPC request says of its answer's form: the same as HTTP's response_format, tools and tool_choice,
// by the same rules. Internal to the gRPC service.
#pragma once

#include "base/status.h"
#include "coordinator/frontend/frontend.h"
#include "fulger/v1/generate.pb.h"

namespace fulger {

// Fills input->tools and input->form. `one_call`: the answer ends with its first call of a tool.
// INVALID_ARGUMENT with the field at fault, as HTTP names it.
absl::Status ReadGrpcForm(const v1::GenerateRequest& request, GenerateInput* input, bool* one_call);

}  // namespace fulger
