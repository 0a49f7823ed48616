"""Loading __consumer_offsets: many groups commit offsets of a topic's partitions, and after a restart each is asked for its last one.

A raw client, so that next to nothing of the time is its own: OffsetCommit v5, OffsetFetch v5, FindCoordinator v2."""
import socket, struct, threading, time

GROUPS, PARTITIONS = 1000, 1000
RETRIABLE = (3, 14, 15, 16)  # the topic is not known yet; the coordinator loads, is not available, or not here

def text(s):
    return struct.pack(">h", len(s)) + s.encode()

class Line:
    def __init__(self, port):
        self.s = socket.create_connection(("127.0.0.1", port), 2); self.s.settimeout(60); self.n = 0
    def call(self, key, version, body):
        self.n += 1
        b = struct.pack(">hhi", key, version, self.n) + text("offsets") + body
        self.s.sendall(struct.pack(">i", len(b)) + b)
        return self.read(struct.unpack(">i", self.read(4))[0])[4:]
    def read(self, n):
        d = bytearray()
        while len(d) < n:
            got = self.s.recv(n - len(d))
            if not got: raise OSError("closed")
            d += got
        return bytes(d)

def group(i):
    return text(f"group-{i}")

def commit(port, topic):
    """Commits one offset of each partition for each group; how many were committed."""
    line, done = Line(port), 0
    line.call(10, 2, group(0) + b"\0")
    partitions = b"".join(struct.pack(">iq", p, p + 1) + text("") for p in range(PARTITIONS))
    for i in range(GROUPS):
        body = group(i) + struct.pack(">i", -1) + text("") + struct.pack(">i", 1) + text(topic) + struct.pack(">i", PARTITIONS) + partitions
        deadline = time.time() + 60
        while True:
            answer = line.call(8, 5, body)
            codes = answer[4 + 4 + 2 + len(topic) + 4:]
            errors = {struct.unpack(">h", codes[at + 4:at + 6])[0] for at in range(0, len(codes), 6)}
            if errors == {0}: break
            if not errors <= {0, *RETRIABLE} or time.time() > deadline: raise OSError(f"commit: errors {errors}")
            time.sleep(.02)
        done += PARTITIONS
    return done

def fetch(line, topic, i):
    """The last committed offset of a group; None while it is not loaded."""
    last = PARTITIONS - 1
    answer = line.call(9, 5, group(i) + struct.pack(">i", 1) + text(topic) + struct.pack(">ii", 1, last))
    if (error := struct.unpack(">h", answer[-2:])[0]) in RETRIABLE: return None
    if error: raise OSError(f"fetch: error {error}")
    at = 4 + 4 + 2 + len(topic) + 4
    return struct.unpack(">q", answer[at + 4:at + 12])[0]

class Watch(threading.Thread):
    """Asks for every group from now on, until all have answered; `at` is when the last one did."""
    def __init__(self, port, topic):
        super().__init__(daemon=True); self.port, self.topic, self.at, self.wrong = port, topic, None, None; self.start()
    def run(self):
        line, i, deadline = None, 0, time.time() + 300
        while i < GROUPS and time.time() < deadline:
            try:
                line = line or Line(self.port)
                offset = fetch(line, self.topic, i)
            except (OSError, struct.error):
                line = None; time.sleep(.002); continue
            if offset is None: time.sleep(.002); continue
            if offset != PARTITIONS: self.wrong = f"group-{i} has {offset}"; return
            i += 1
        if i == GROUPS: self.at = time.time()
        else: self.wrong = f"group-{i} was not loaded within 300 s"
