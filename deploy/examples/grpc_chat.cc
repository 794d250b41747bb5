// grpc_chat ADDRESS PICTURE [MAX_TOKENS]: a question about a picture over gRPC. The server needs --grpc.
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "fulger/v1/generate.grpc.pb.h"

namespace {

int Fail(const grpc::Status& status) {
  std::fprintf(stderr, "grpc_chat: %s\n", status.error_message().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const int max_tokens = argc == 4 ? std::atoi(argv[3]) : 32;
  if (argc < 3 || argc > 4 || max_tokens <= 0) {
    std::fprintf(stderr, "usage: grpc_chat ADDRESS PICTURE [MAX_TOKENS]\n");
    return 2;
  }
  std::ifstream file(argv[2], std::ios::binary);
  const std::string picture{std::istreambuf_iterator<char>(file), {}};
  const auto stub =
      fulger::v1::Fulger::NewStub(grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials()));

  grpc::ClientContext about;
  fulger::v1::GetModelResponse model;
  if (const auto status = stub->GetModel(&about, {}, &model); !status.ok()) return Fail(status);
  std::printf("%s: %s, %lld tokens of context\n", model.id().c_str(), model.layout().c_str(),
              static_cast<long long>(model.max_context()));

  fulger::v1::GenerateRequest request;
  request.mutable_sampling()->set_max_tokens(max_tokens);  // temperature 0, the default here: the likeliest
  auto* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->add_content()->set_image(picture);
  message->add_content()->set_text("What is in this picture?");

  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, request);
  fulger::v1::GenerateResponse response;
  while (reader->Read(&response)) {
    std::fputs(response.text().c_str(), stdout);
    std::fflush(stdout);
    if (response.finish_reason().empty()) continue;
    std::printf("\n[%s, %d + %d tokens]\n", response.finish_reason().c_str(),
                response.usage().prompt_tokens(), response.usage().completion_tokens());
  }
  const auto status = reader->Finish();
  return status.ok() ? 0 : Fail(status);
}
