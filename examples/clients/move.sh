#!/bin/sh
# Move a file and wait for it: sh move.sh SOURCE DESTINATION PATH [SIZE]
#
# DATAMOVER_URL is https://HOST:10700/data_mover, DATAMOVER_LOGIN is NAME:PASSWORD,
# DATAMOVER_CA a file with the certificate authority to trust (default: the system's).
set -eu
wait=60 # seconds: the most that jobs.wait takes

# text TEXT: as XML writes it
text() {
    printf '%s' "$1" | sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g'
}

# call METHOD PARAMETER...: the answer, a Fault's sentence on standard error
call() {
    method=$1
    shift
    answer=$({
        printf '<methodCall><methodName>%s</methodName><params>' "$method"
        printf '<param><value>%s</value></param>' "$@"
        printf '</params></methodCall>'
    } | curl --silent --show-error --fail --max-time $((wait + 30)) ${DATAMOVER_CA:+--cacert "$DATAMOVER_CA"} \
        --user "$DATAMOVER_LOGIN" --header 'Content-Type: text/xml' --data-binary @- "$DATAMOVER_URL")
    fault=$(printf '%s' "$answer" | get '//fault//member[name="faultString"]/value')
    if [ -n "$fault" ]; then
        printf '%s\n' "$fault" >&2
        return 1
    fi
    printf '%s' "$answer"
}

# get XPATH: the text of the first element in the answer that is read
get() {
    xmllint --xpath "string($1)" -
}

# member NAME: a string that stands for a member of the answer's struct
member() {
    get "/methodResponse/params/param/value/struct/member[name='$1']/value"
}

request=
for pair in "source=$1" "destination=$2" "path=$3" "label=curl: $3"; do
    request="$request<member><name>${pair%%=*}</name><value><string>$(text "${pair#*=}")</string></value></member>"
done
if [ $# -gt 3 ]; then
    request="$request<member><name>size</name><value><double>$4</double></value></member>"
fi
answer=$(call jobs.submit "<struct>$request</struct>")
id=$(printf '%s' "$answer" | member id)
while :; do
    job=$(call jobs.wait "<int>$id</int>" "<int>$wait</int>")
    status=$(printf '%s' "$job" | member status)
    done=$(printf '%s' "$job" | member bytes_done)
    total=$(printf '%s' "$job" | member bytes_total)
    echo "job $id, $(printf '%s' "$job" | member label): $status, ${done%.*} of ${total%.*} bytes"
    case $status in COMPLETED | PARTIAL | FAILED | CANCELLED) break ;; esac
done
if [ "$status" != COMPLETED ]; then
    printf '%s\n' "$(printf '%s' "$job" | get '//member[name="error"]//member[name="message"]/value')" >&2
    exit 1
fi
file=$(call jobs.files "<int>$id</int>")
size=$(printf '%s' "$file" | get '//member[name="size"]/value')
echo "$(printf '%s' "$file" | get '//member[name="path"]/value'): ${size%.*} bytes," \
    "$(printf '%s' "$file" | get '//member[name="digest"]/value')"
