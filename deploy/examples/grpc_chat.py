#!/usr/bin/env python3
"""grpc_chat.py ADDRESS PICTURE: a question about a picture over gRPC (pip install grpcio-tools). The server needs --grpc.

    deploy/examples/grpc_chat.py localhost:9000 picture.jpg
"""
import os
import sys

import grpc

# Stubs are made at run time from the project's own proto files.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto"))
messages, services = grpc.protos_and_services("fulger/v1/generate.proto")


def main():
    address, picture = sys.argv[1:3]
    with open(picture, "rb") as file:
        image = file.read()
    with grpc.insecure_channel(address) as channel:
        stub = services.FulgerStub(channel)
        model = stub.GetModel(messages.GetModelRequest())
        print(f"{model.id}: {model.layout}, {model.max_context} tokens of context")
        request = messages.GenerateRequest()
        request.sampling.max_tokens = 32  # temperature 0, the default here: the likeliest token
        message = request.chat.messages.add(role="user")
        message.content.add(image=image)
        message.content.add(text="What is in this picture?")
        for response in stub.Generate(request):
            print(response.text, end="", flush=True)
            if response.finish_reason:
                usage = response.usage
                print(f"\n[{response.finish_reason}, {usage.prompt_tokens} + {usage.completion_tokens} tokens]")


if __name__ == "__main__":
    main()
