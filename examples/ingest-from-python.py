"""Schedules a message by RocketMQ alone, in the official Python client: no HTTP, nothing of Escapement is imported.

    pip install rocketmq-python-client==5.1.2
    ROCKETMQ_ENDPOINT=127.0.0.1:8081 python3 examples/ingest-from-python.py

Prints

    handed over: hello from Python, for demo in 2s

and two seconds later the message is on the topic `demo` (`npm run example:consume` shows it). A topic or time that
Escapement cannot accept is not refused here: the message is then found among the dead, with the reason.
"""

import os

from rocketmq import ClientConfiguration, Credentials, Message, Producer

endpoint = os.environ.get("ROCKETMQ_ENDPOINT", "127.0.0.1:8081")
producer = Producer(ClientConfiguration(endpoint, Credentials()), ["ESC_INGEST"])
producer.startup()

message = Message()
message.topic = "ESC_INGEST"
message.body = b"hello from Python"
message.add_property("ESC_TOPIC", "demo")  # where it shall go
message.add_property("ESC_DELAY", "2s")  # and when; or ESC_DELIVER_AT with an instant
message.add_property("shop", "7")  # any other property travels along
producer.send(message)
print("handed over: hello from Python, for demo in 2s")

producer.shutdown()
