#!/usr/bin/python3
"""Stands in for fluent-bit, which no registry of Debian has: reads its configuration, and sends the journal where that says.

It knows what the recipe writes, and ends with an error at anything else. OpenTelemetry is spoken as JSON.
"""
import json, os, subprocess, sys, threading, time, urllib.request

KNOWN = {
    "SERVICE": "flush storage.path storage.sync",
    "INPUT": "name tag db storage.type",
    "OUTPUT": "name match host port logs_uri logs_body_key logs_body_key_attributes logstash_format suppress_type_name tls "
    "tls.verify_hostname retry_limit storage.total_limit_size region log_group_name log_stream_prefix log_stream_template",
}


def sections(path):
    found = []
    for line in open(path):
        words = line.split(None, 1)
        if line.startswith("["):
            found.append((line.strip("[]\n"), {}))
        elif words:
            key = words[0].lower()
            assert key in KNOWN[found[-1][0]].split(), line
            found[-1][1][key] = words[1].strip()
    return found


def ask(url, body=None, headers={}, method=None):
    request = urllib.request.Request(url, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def address(output):
    scheme = {"on": "https", "off": "http"}[output["tls"]]
    return f"{scheme}://{output['host']}:{output['port']}"


def opentelemetry(output, entries):
    assert output["logs_body_key"] == "$MESSAGE"
    records = [
        {"timeUnixNano": entry["__REALTIME_TIMESTAMP"] + "000", "body": {"stringValue": str(entry.get("MESSAGE"))}}
        for entry in entries
    ]
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    ask(address(output) + output["logs_uri"], json.dumps(body).encode(), {"Content-Type": "application/json"})


def es(output, entries):
    assert output["logstash_format"] == output["suppress_type_name"] == "on"
    index = json.dumps({"create": {"_index": time.strftime("logstash-%Y.%m.%d")}})
    lines = "".join(f"{index}\n{json.dumps(entry)}\n" for entry in entries)
    ask(address(output) + "/_bulk", lines.encode(), {"Content-Type": "application/x-ndjson"})


def cloudwatch_logs(output, entries):
    metadata = "http://169.254.169.254/latest/"
    token = ask(metadata + "api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT")
    roles = metadata + "meta-data/iam/security-credentials/"
    told = {"X-aws-ec2-metadata-token": token}
    key = json.loads(ask(roles + ask(roles, headers=told), headers=told))["AccessKeyId"]
    scope = f"{key}/20261122/{output['region']}/logs/aws4_request"

    def call(target, body):
        headers = {
            "X-Amz-Target": "Logs_20140328." + target,
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        }
        ask(os.environ["AWS_ENDPOINT_URL"], json.dumps(body).encode(), headers)

    assert output["log_stream_template"] == "$_HOSTNAME"
    # A host may get its name while it boots.
    for name in {entry["_HOSTNAME"] for entry in entries}:
        of = {"logGroupName": output["log_group_name"], "logStreamName": name}
        try:
            call("CreateLogStream", of)
        except urllib.error.HTTPError:
            pass  # It is there.
        ours = [entry for entry in entries if entry["_HOSTNAME"] == name]
        events = [{"timestamp": int(each["__REALTIME_TIMESTAMP"]) // 1000, "message": json.dumps(each)} for each in ours]
        # They have to be in order, in which a journal need not be.
        call("PutLogEvents", {**of, "logEvents": sorted(events, key=lambda event: event["timestamp"])})


def main(configuration):
    found = sections(configuration)
    flush = float(next(keys["flush"] for name, keys in found if name == "SERVICE"))
    outputs = [keys for name, keys in found if name == "OUTPUT"]
    journal = subprocess.Popen(["journalctl", "--follow", "--no-tail", "--boot", "--output=json"], stdout=subprocess.PIPE, text=True)
    waiting = {index: [] for index in range(len(outputs))}

    def read():
        for line in journal.stdout:
            entry = json.loads(line)
            for entries in waiting.values():
                entries.append(entry)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    while True:
        time.sleep(flush)
        for index, output in enumerate(outputs):
            entries = list(waiting[index])
            try:
                if entries:
                    globals()[output["name"]](output, entries)
                    del waiting[index][: len(entries)]
            except OSError as error:
                print(f"{output['name']}: {error}; it is tried again", flush=True)


main(sys.argv[sys.argv.index("-c") + 1])
