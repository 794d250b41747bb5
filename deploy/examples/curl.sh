#!/usr/bin/env bash
# curl.sh URL PICTURE: a question about a picture; the answer whole, then as it streams.
#   deploy/examples/curl.sh http://localhost:8000 picture.jpg
set -euo pipefail
url=$1 picture=$2

# Through standard input: a picture is longer than an argument may be.
request() {
  cat <<JSON
{"model": "$model", "max_tokens": 32, "temperature": 0, "stream": $1,
 "messages": [{"role": "user", "content": [
   {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,$(base64 -w0 "$picture")"}},
   {"type": "text", "text": "What is in this picture?"}]}]}
JSON
}
ask() {
  request "$1" | curl --fail-with-body --silent --show-error --no-buffer "$url/v1/chat/completions" \
    --header 'Content-Type: application/json' --data-binary @-
}

model=$(curl --fail --silent --show-error "$url/v1/models" | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["id"])')
ask false
echo
ask true
