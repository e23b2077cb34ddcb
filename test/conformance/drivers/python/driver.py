"""The official Python client behind the conformance suite's line protocol: a request per line on stdin, an answer per
line on stdout, requests side by side. It hides nothing of the client: no retry, no repair, no check of its own (one
wait: SETTINGS_MAX_S). What surprised us about the client is in ../go-and-python.md.

The client counts in whole seconds, the protocol in milliseconds: what is asked for is rounded up, so that nothing is
earlier or shorter than asked.
"""

import base64
import json
import os
import sys
import tempfile
import threading
import time

CLIENT_VERSION = "5.1.2"
# A consumer's startup does not wait until the server has taken its settings, and a real proxy answers 50001 to a poll that
# overtakes them. So a consumer is called open when the server has answered, for which the client keeps an event.
SETTINGS_MAX_S = 5
CLOSE_MAX_S = 8  # the protocol gives ten seconds from the end of stdin to the end of the process

ENDPOINT = sys.argv[1]
TLS = "--tls" in sys.argv[2:]


def import_client():
    """The client opens a log file below the home folder while it is imported, before anybody could tell it not to."""
    home = os.environ.get("HOME")
    with tempfile.TemporaryDirectory() as elsewhere:
        os.environ["HOME"] = elsewhere
        import rocketmq  # noqa: F401
        import rocketmq.v5.log

        logger = rocketmq.v5.log.logger
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
    if home is None:
        del os.environ["HOME"]
    else:
        os.environ["HOME"] = home
    import logging

    logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.setLevel(logging.ERROR)


import_client()

import grpc  # noqa: E402
from rocketmq import (  # noqa: E402
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
    TransactionChecker,
    TransactionResolution,
)
from rocketmq.grpc_protocol import FilterType  # noqa: E402

RESOLUTIONS = {
    "commit": TransactionResolution.COMMIT,
    "rollback": TransactionResolution.ROLLBACK,
    "unknown": TransactionResolution.TRANSACTION_RESOLUTION_UNSPECIFIED,
}
FILTER_TYPES = {"tag": FilterType.TAG, "sql": FilterType.SQL}

clients = {}  # by the name that the harness gave them
received = {}  # handle → (consumer, message); the client changes the receipt handle inside the message
names_lock = threading.Lock()
output_lock = threading.Lock()


def write(value):
    line = json.dumps(value, ensure_ascii=False) + "\n"
    with output_lock:
        sys.stdout.write(line)
        sys.stdout.flush()


def seconds_up(milliseconds):
    return -(-milliseconds // 1000)


def configuration():
    return ClientConfiguration(ENDPOINT, Credentials())


class Checker(TransactionChecker):
    def __init__(self, name, answer):
        self.name = name
        self.answer = RESOLUTIONS[answer]

    def check(self, message):
        write(
            {
                "event": "check",
                "producer": self.name,
                "messageId": message.message_id,
                "properties": dict(message.properties),
            }
        )
        return self.answer


class Listener(MessageListener):
    def __init__(self, name, fail_first):
        self.name = name
        self.failures_left = fail_first
        self.lock = threading.Lock()

    def consume(self, message):
        with self.lock:
            fails = self.failures_left > 0
            if fails:
                self.failures_left -= 1
        write({"event": "pushed", "name": self.name, "message": described(message)})
        return ConsumeResult.FAILURE if fails else ConsumeResult.SUCCESS


def described(message):
    told = {
        "messageId": message.message_id,
        "topic": message.topic,
        "body": base64.b64encode(message.body).decode(),
        "keys": sorted(message.keys),  # the client keeps them as a set
        "properties": dict(message.properties),
        "bornAtMs": message.born_timestamp,
        "attempt": message.delivery_attempt,
    }
    if message.tag is not None:
        told["tag"] = message.tag
    if message.message_group is not None:
        told["messageGroup"] = message.message_group
    if message.delivery_timestamp:  # 0 when there is none
        told["deliverAtMs"] = message.delivery_timestamp
    return told


def message_of(asked):
    message = Message()
    message.topic = asked["topic"]
    message.body = base64.b64decode(asked["body"])
    if "tag" in asked:
        message.tag = asked["tag"]
    for key in asked.get("keys", []):
        message.keys = key  # each assignment adds one; a list is refused
    for key, value in asked.get("properties", {}).items():
        message.add_property(key, value)
    if "messageGroup" in asked:
        message.message_group = asked["messageGroup"]
    if "deliverAtMs" in asked:
        message.delivery_timestamp = seconds_up(asked["deliverAtMs"])  # seconds here, milliseconds on what is received
    return message


def called(name):
    with names_lock:
        if name not in clients:
            raise KeyError(f"nothing is called {name} here")
        return clients[name]


def started(name, client):
    client.startup()
    with names_lock:
        clients[name] = client
    return {}


def producer(asked):
    checker = Checker(asked["name"], asked["check"]) if "check" in asked else None
    return started(asked["name"], Producer(configuration(), asked["topics"], checker=checker, tls_enable=TLS))


def send(asked):
    receipt = called(asked["producer"]).send(message_of(asked))
    answer = {"messageId": receipt.message_id}
    if receipt.recall_handle:
        answer["recallHandle"] = receipt.recall_handle
    return answer


def send_transaction(asked):
    client = called(asked["producer"])
    transaction = client.begin_transaction()
    receipt = client.send(message_of(asked), transaction)
    if asked["resolve"] == "commit":
        transaction.commit()
    elif asked["resolve"] == "rollback":
        transaction.rollback()
    elif asked["resolve"] != "leave":
        raise ValueError(f"resolve is commit, rollback or leave, not {asked['resolve']}")
    return {"messageId": receipt.message_id, "transactionId": receipt.transaction_id}


def recall(asked):
    return {"messageId": called(asked["producer"]).recall_message(asked["topic"], asked["handle"])}


def subscription_of(asked):
    return {asked["topic"]: FilterExpression(asked["filter"], FILTER_TYPES[asked.get("filterType", "tag")])}


def consumer(asked):
    client = SimpleConsumer(
        configuration(),
        asked["group"],
        subscription_of(asked),
        await_duration=seconds_up(asked["awaitMs"]),
        tls_enable=TLS,
    )
    done = started(asked["name"], client)
    if client.route_manager.get_all_endpoints():  # without a route there is nobody to answer
        client._init_settings_event.wait(SETTINGS_MAX_S)
    return done


def receive(asked):
    client = called(asked["consumer"])
    messages = []
    for message in client.receive(asked["max"], seconds_up(asked["invisibleMs"])):
        with names_lock:
            handle = f"h{len(received) + 1}"
            received[handle] = (client, message)
        messages.append({"handle": handle, **described(message)})
    return {"messages": messages}


def held(handle):
    with names_lock:
        if handle not in received:
            raise KeyError(f"no message has the handle {handle} here")
        return received[handle]


def ack(asked):
    client, message = held(asked["handle"])
    client.ack(message)
    return {}


def change_invisible(asked):
    client, message = held(asked["handle"])
    client.change_invisible_duration(message, seconds_up(asked["invisibleMs"]))
    return {}


def push(asked):
    listener = Listener(asked["name"], asked.get("failFirst", 0))
    client = PushConsumer(configuration(), asked["group"], listener, subscription_of(asked), tls_enable=TLS)
    return started(asked["name"], client)


def close(asked):
    client = called(asked["name"])
    client.shutdown()
    with names_lock:
        clients.pop(asked["name"], None)
    return {}


VERBS = {
    "producer": producer,
    "send": send,
    "sendTransaction": send_transaction,
    "recall": recall,
    "consumer": consumer,
    "receive": receive,
    "ack": ack,
    "changeInvisible": change_invisible,
    "push": push,
    "close": close,
}


def failure_of(error):
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, grpc.RpcError):
        return {"code": -error.code().value[0], "text": f"{error.code().name}: {error.details()}"}
    code = getattr(error, "code", None)
    return {"code": code if isinstance(code, int) else 0, "text": text}


def answer(line):
    asked = {}
    try:
        asked = json.loads(line)
        if asked["do"] not in VERBS:
            raise ValueError(f"unknown verb {asked['do']}")
        write({"n": asked["n"], "ok": VERBS[asked["do"]](asked)})
    except BaseException as error:  # a request that fails must not take the others with it
        write({"n": asked.get("n"), "error": failure_of(error)})


def trust_whoever_answers():
    """The client verifies against the machine's own roots and has no switch for it. So the server is asked for its
    certificate first, which then becomes the only root, under a name that it bears."""
    import socket
    import ssl

    host, port = ENDPOINT.rsplit(":", 1)
    certificate = ssl.get_server_certificate((host, int(port)))
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as roots:
        roots.write(certificate)
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = roots.name
    context = ssl.create_default_context(cafile=roots.name)
    context.check_hostname = False
    with context.wrap_socket(socket.create_connection((host, int(port)))) as connection:
        bears = connection.getpeercert()
    names = [value for _, value in bears.get("subjectAltName", ())]
    names += [value for field in bears["subject"] for key, value in field if key == "commonName"]
    verifying = grpc.aio.secure_channel

    def secure_channel(target, credentials, options=None, **rest):
        return verifying(target, credentials, [*(options or []), ("grpc.ssl_target_name_override", names[0])], **rest)

    grpc.aio.secure_channel = secure_channel
    return roots.name


def close_all():
    def close_one(client):
        try:
            client.shutdown()
        except BaseException as error:
            print(f"closing {client}: {error}", file=sys.stderr)

    with names_lock:
        closing = [threading.Thread(target=close_one, args=(one,), daemon=True) for one in clients.values()]
    end = time.monotonic() + CLOSE_MAX_S
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join(max(0, end - time.monotonic()))


def main():
    roots = trust_whoever_answers() if TLS else None
    write({"ready": True, "client": f"python {CLIENT_VERSION}"})
    for line in sys.stdin.buffer:
        if line.strip():
            threading.Thread(target=answer, args=(line,), daemon=True).start()
    close_all()
    if roots is not None:
        os.unlink(roots)
    os._exit(0)  # the client's thread pools would otherwise hold the process until their long polls have ended


main()
