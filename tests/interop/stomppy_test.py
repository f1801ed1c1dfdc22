"""stomp.py against a real server: every version, TCP and WebSocket.

Run by unittest; POSTDATE_HTTP and POSTDATE_STOMP say where the server is.
"""

import os
import queue
import time
import unittest
import uuid

import stomp


class Inbox(stomp.ConnectionListener):
    """What came, by kind."""

    def __init__(self):
        self.messages = queue.Queue()
        self.receipts = queue.Queue()
        self.errors = queue.Queue()

    def on_message(self, frame):
        self.messages.put(frame)

    def on_receipt(self, frame):
        self.receipts.put(frame)

    def on_error(self, frame):
        self.errors.put(frame)

    def message(self):
        return self.messages.get(timeout=10)

    def receipt(self, name):
        frame = self.receipts.get(timeout=10)
        assert frame.headers["receipt-id"] == name, frame.headers
        return frame.headers


def address(variable):
    host, port = os.environ[variable].rsplit(":", 1)
    return [(host, int(port))]


class Clients:
    """What is done with each kind of connection."""

    def connect(self, **more):
        connection = self.make()
        inbox = Inbox()
        connection.set_listener("", inbox)
        connection.connect("alice", "secret", wait=True, **more)
        return connection, inbox

    def test_send_subscribe_acknowledge(self):
        connection, inbox = self.connect()
        name = f"/queue/{uuid.uuid4()}"
        connection.subscribe(name, id="1", ack="client", headers={"receipt": "subscribed"})
        inbox.receipt("subscribed")
        connection.send(name, "grüße €", headers={"receipt": "sent", "x-odd": "a b"})
        message_id = inbox.receipt("sent")["message-id"]
        message = inbox.message()
        self.assertEqual(message.body, "grüße €")
        self.assertEqual(message.headers["message-id"], message_id)
        self.assertEqual(message.headers["x-odd"], "a b")
        self.assertEqual(message.headers["redelivered"], "false")
        self.acknowledge(connection, message)
        connection.unsubscribe(id="1") if self.version > 1.0 else connection.unsubscribe(name)
        connection.disconnect()

    def test_delay(self):
        connection, inbox = self.connect()
        name = f"/queue/{uuid.uuid4()}"
        connection.subscribe(name, id="1", ack="auto")
        began = time.monotonic()
        connection.send(name, "later", headers={"AMQ_SCHEDULED_DELAY": "500"})
        self.assertEqual(inbox.message().body, "later")
        self.assertGreaterEqual(time.monotonic() - began, 0.5)
        connection.disconnect()

    def test_transaction(self):
        connection, inbox = self.connect()
        name = f"/queue/{uuid.uuid4()}"
        connection.subscribe(name, id="1", ack="auto")
        dropped = connection.begin()
        connection.send(name, "never", transaction=dropped)
        connection.abort(dropped)
        kept = connection.begin()
        connection.send(name, "one", transaction=kept)
        connection.send(name, "two", transaction=kept)
        connection.commit(kept)
        self.assertEqual([inbox.message().body, inbox.message().body], ["one", "two"])
        connection.disconnect()

    def test_reject(self):
        if self.version == 1.0:
            self.skipTest("there is no NACK in 1.0")
        connection, inbox = self.connect()
        name = f"/queue/{uuid.uuid4()}"
        connection.subscribe(name, id="1", ack="client-individual")
        connection.send(name, "again")
        first = inbox.message()
        self.reject(connection, first)
        second = inbox.message()
        self.assertEqual(second.headers["redelivered"], "true")
        self.assertEqual(second.headers["message-id"], first.headers["message-id"])
        self.acknowledge(connection, second)
        connection.disconnect()

    def test_error(self):
        connection, inbox = self.connect()
        connection.send("nowhere", "x")
        error = inbox.errors.get(timeout=10)
        self.assertEqual(error.headers["message"], "bad-destination")

    def test_heart_beats(self):
        if self.version == 1.0:
            self.skipTest("there are none in 1.0")
        connection = self.make(heartbeats=(10_000, 10_000))
        inbox = Inbox()
        connection.set_listener("", inbox)
        connection.connect("alice", "secret", wait=True)
        self.assertTrue(connection.is_connected())
        connection.disconnect()


class Tcp10(Clients, unittest.TestCase):
    version = 1.0

    def make(self, **more):
        return stomp.Connection10(address("POSTDATE_STOMP"))

    def acknowledge(self, connection, message):
        connection.ack(message.headers["message-id"])


class Tcp11(Clients, unittest.TestCase):
    version = 1.1

    def make(self, **more):
        return stomp.Connection11(address("POSTDATE_STOMP"), **more)

    def acknowledge(self, connection, message):
        connection.ack(message.headers["message-id"], message.headers["subscription"])

    def reject(self, connection, message):
        connection.nack(message.headers["message-id"], message.headers["subscription"])


class Tcp12(Clients, unittest.TestCase):
    version = 1.2

    def make(self, **more):
        return stomp.Connection12(address("POSTDATE_STOMP"), **more)

    def acknowledge(self, connection, message):
        connection.ack(message.headers["ack"])

    def reject(self, connection, message):
        connection.nack(message.headers["ack"])


class WebSocket12(Tcp12):
    def make(self, **more):
        return stomp.WSStompConnection(address("POSTDATE_HTTP"), ws_path="/ws", **more)


if __name__ == "__main__":
    unittest.main()
