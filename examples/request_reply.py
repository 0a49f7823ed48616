#!/usr/bin/env python3
"""Request and reply: a client asks, a server answers, each over a topic.

    request_reply.py serve                     answers until it is ended
    request_reply.py ask 100 2000 oops         asks once for each word, and prints the answers

Every request says in its headers where its answer is wanted (reply-topic) and what it is to be called (correlation-id).
All clients read the whole reply topic from where it ended when they began, and take what bears one of their ids.
"""

import argparse
import signal
import sys
import time
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

REQUESTS = "loan_request"
REPLIES = "loan_reply"


def create_topics(servers):
    """Makes both topics, unless they are there."""
    topics = [NewTopic(REQUESTS, 2, 1), NewTopic(REPLIES, 2, 1)]
    admin = AdminClient({"bootstrap.servers": servers})
    for created in admin.create_topics(topics).values():
        try:
            created.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def headers_of(message):
    return {name: value for name, value in message.headers() or []}


# --- the server


def decide(amount):
    """What the server is for."""
    try:
        return "granted" if int(amount) < 1000 else "refused"
    except ValueError:
        return f"not a number: {amount}"


def serve(servers):
    """Answers requests. Several servers share them, being one group.

    A request is done once its answer is acknowledged; only then its offset is committed. A server that dies between the two leaves
    the request to another one, and it is answered twice: the client drops the second answer.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "loan-desk",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
        }
    )
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "linger.ms": 0})
    running = [True]
    for ended in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ended, lambda *_: running.clear())
    consumer.subscribe([REQUESTS], on_assign=lambda *_: print("serving", flush=True))
    while running:
        request = consumer.poll(0.2)
        if request is None or request.error():
            continue
        headers = headers_of(request)
        if "reply-topic" in headers and "correlation-id" in headers:
            producer.produce(
                headers["reply-topic"].decode(),
                decide(request.value().decode()),
                headers={"correlation-id": headers["correlation-id"]},
            )
            if producer.flush(10):  # not acknowledged: from here again
                consumer.seek(TopicPartition(request.topic(), request.partition(), request.offset()))
                continue
        consumer.commit(request, asynchronous=False)
    consumer.close()


# --- the client


class Requester:
    """Asks, and waits for the answers for so long and no longer."""

    def __init__(self, servers):
        self.producer = Producer({"bootstrap.servers": servers, "acks": "all", "linger.ms": 0})
        # It commits nothing and is in no group, but the library wants a name.
        self.consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused", "enable.auto.commit": False})
        # From here on; said as numbers now, since "the end" would be looked up later than the first request is sent.
        metadata = self.consumer.list_topics(REPLIES, timeout=10)
        ends = []
        for partition in metadata.topics[REPLIES].partitions:
            _, end = self.consumer.get_watermark_offsets(TopicPartition(REPLIES, partition), timeout=10)
            ends.append(TopicPartition(REPLIES, partition, end))
        self.consumer.assign(ends)

    def ask(self, questions, timeout):
        """The answers in the order of the questions; None where none came in time."""
        ids = [uuid.uuid4().hex for _ in questions]
        for name, question in zip(ids, questions):
            headers = {"reply-topic": REPLIES, "correlation-id": name}
            self.producer.produce(REQUESTS, question, headers=headers)
        deadline = time.monotonic() + timeout
        self.producer.flush(timeout)
        open_ids, answers = set(ids), {}
        while open_ids and time.monotonic() < deadline:
            reply = self.consumer.poll(min(0.2, timeout))
            if reply is None or reply.error():
                continue
            name = headers_of(reply).get("correlation-id", b"").decode()
            if name in open_ids:  # otherwise: somebody else's, a second one, or too late
                open_ids.remove(name)
                answers[name] = reply.value().decode()
        return [answers.get(name) for name in ids]


def ask(servers, questions, timeout):
    answers = Requester(servers).ask(questions, timeout)
    for question, answer in zip(questions, answers):
        print(f"{question}: {answer or f'no answer within {timeout:g} s'}")
    return 0 if all(answers) else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-server", default="localhost:9092")
    parser.add_argument("--timeout", type=float, default=10, help="seconds that an answer may take")
    parser.add_argument("role", choices=["serve", "ask"])
    parser.add_argument("questions", nargs="*")
    options = parser.parse_args()
    create_topics(options.bootstrap_server)
    if options.role == "serve":
        return serve(options.bootstrap_server)
    return ask(options.bootstrap_server, options.questions, options.timeout)


if __name__ == "__main__":
    sys.exit(main())
