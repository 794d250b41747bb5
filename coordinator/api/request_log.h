// One line of the log for every request, refused ones too: key=value, always in the same order, so that it
// can be searched by request id and counted by program. A value with spaces or quotes is a JSON string.
#pragma once

#include <cstdint>
#include <string>

namespace fulger {

struct RequestLogLine {
  std::string id;      // x-request-id of the client, or the one that it was given; also in the workers' logs
  std::string answer;  // chatcmpl-...; empty: none was begun
  std::string route;
  std::string client;  // whose key it was; empty: nobody's
  std::string peer;    // address
  std::string status;  // HTTP's number, gRPC's name; 499: the client left
  std::string finish;  // stop, length, tool_calls, abort, error; several choices: with commas
  bool stream = false;
  int64_t choices = 0;
  int64_t prompt_tokens = 0, cached_tokens = 0, image_tokens = 0, completion_tokens = 0;
  // Seconds, of the slowest choice. picture: decoding and cutting, before it is queued.
  double picture = 0, queue = 0, prefill = 0, decode = 0;
  double total = 0;   // from arrival to the answer's end, all of the above included
  std::string error;  // message
};

std::string ToString(const RequestLogLine& line);
void LogRequest(const RequestLogLine& line);

}  // namespace fulger
