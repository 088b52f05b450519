#!/bin/sh
# The same with curl: sh examples/client.sh [FILM [URL]]
set -eu

film=${1:-$(dirname "$0")/sample.png}
url=${2:-http://127.0.0.1:9696}

newline='
'
# Print the answer; where its status is not 200, it says why in one line, and the script ends.
ask() {
    answer=$(curl --silent --show-error --max-time 30 --write-out '\n%{http_code}' "$@")
    status=${answer##*"$newline"}
    answer=$(printf '%s' "${answer%"$newline"*}")
    if [ "$status" != 200 ]; then
        printf 'client.sh: %s %s\n' "$status" "$answer" >&2
        return 1
    fi
    printf '%s\n' "$answer"
}

if ! [ -r "$film" ]; then
    echo "client.sh: $film cannot be read" >&2
    exit 2
fi
# Some base64 break lines and some do not, and their options differ.
text=$(base64 <"$film" | tr -d '\n')

echo "# health"
ask "$url/health"

echo "# one film as JSON"
printf '{"image": "%s"}' "$text" | ask -H "Content-Type: application/json" --data-binary @- "$url/predict"

echo "# the file as it is, in a form"
ask -F "image=@\"$film\"" "$url/predict"

echo "# several at once"
printf '{"images": ["%s", "%s"]}' "$text" "$text" |
    ask -H "Content-Type: application/json" --data-binary @- "$url/predict"
