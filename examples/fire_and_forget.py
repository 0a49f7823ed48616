#!/usr/bin/env python3
"""Fire and forget: records are sent and nobody waits for an answer (acks=0).

    fire_and_forget.py send 10000              sends numbered records and says what the client was told
    fire_and_forget.py count 10000             reads the topic and says what is there

`--acks all` is the careful way, for comparison. `--bytes` is the size of a record.
"""

import argparse
import sys
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

TOPIC = "measurements"


def send(options):
    """Sends the numbers from 0 on. With acks=0 "done" means: written to the socket, or further."""
    told = {"done": 0, "refused": 0}
    why = set()

    def on_delivery(error, _):
        told["refused" if error else "done"] += 1
        if error:
            why.add(error.name())

    producer = Producer(
        {
            "bootstrap.servers": options.bootstrap_server,
            "acks": options.acks,
            "message.max.bytes": 100_000_000,
            "message.timeout.ms": 30_000,
            "linger.ms": 5,
            "on_delivery": on_delivery,
        }
    )
    for number in range(options.count):
        producer.produce(options.topic, str(number).ljust(options.bytes, "."))
        producer.poll(0)
        if options.pause_ms:
            time.sleep(options.pause_ms / 1000)
    unsent = producer.flush(40)
    reasons = " ".join(sorted(why))
    print(f"done={told['done']} refused={told['refused']} unsent={unsent} {reasons}".rstrip())


def count(options):
    """Which of the numbers are there, and how often."""
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap_server,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    partitions = consumer.list_topics(options.topic, timeout=10).topics[options.topic].partitions
    consumer.assign([TopicPartition(options.topic, partition, 0) for partition in partitions])
    found, total, open_partitions = set(), 0, set(partitions)
    deadline = time.monotonic() + 60
    while open_partitions and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            if message.error().code() == KafkaError._PARTITION_EOF:
                open_partitions.discard(message.partition())
            continue
        total += 1
        found.add(int(message.value().decode().rstrip(".")))
    missing = options.count - len(found)
    print(f"there={len(found)} missing={missing} repeated={total - len(found)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-server", default="localhost:9092")
    parser.add_argument("--topic", default=TOPIC)
    parser.add_argument("--acks", default="0", choices=["0", "1", "all"])
    parser.add_argument("--bytes", type=int, default=20)
    parser.add_argument("--pause-ms", type=float, default=0, help="between two records")
    parser.add_argument("what", choices=["send", "count"])
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    return send(options) if options.what == "send" else count(options)


if __name__ == "__main__":
    sys.exit(main())
