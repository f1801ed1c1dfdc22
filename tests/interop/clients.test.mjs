// What people do with STOMP, done with every client in the same way.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { clients } from "./clients.mjs";
import { serve } from "./server.mjs";

const server = await serve();
after(() => server.stop());

let count = 0;
const name = (kind) => `/${kind}/interop-${++count}`;

for (const client of clients(server)) {
  describe(client.name, { timeout: 120_000 }, () => {
    let here;
    before(async () => (here = await client.connect({ login: "alice" })));
    after(() => here.disconnect());

    test("a message goes out and comes back as it was", async () => {
      const queue = name("queue");
      const inbox = await here.subscribe(queue, { ack: "client-individual" });
      const body = "grüße £ € 😀\nsecond line";
      // (a backslash in front of a c is not unescaped rightly by every client)
      const odd = client.escapes && here.version === "1.2" ? "a:b\nd" : "a b";
      const receipt = await here.send(queue, { "x-odd": odd, "content-type": "text/plain", priority: "7" }, body);
      const message = await inbox.next();
      assert.equal(message.body, body);
      assert.equal(message.headers["x-odd"], odd);
      assert.equal(message.headers["content-type"], "text/plain");
      assert.equal(message.headers.destination, queue);
      assert.equal(message.headers["message-id"], receipt["message-id"]);
      assert.equal(message.headers.redelivered, "false");
      assert.equal(message.headers["delivery-attempt"], "1");
      assert.equal(message.headers.priority, "7");
      inbox.ack(message);
      await inbox.unsubscribe();
    });

    test("a delayed message comes when it is due and not before", async () => {
      const queue = name("queue");
      const inbox = await here.subscribe(queue, {});
      const began = Date.now();
      await here.send(queue, { AMQ_SCHEDULED_DELAY: "700" }, "later");
      await here.send(queue, { delay: "300ms" }, "sooner");
      assert.equal((await inbox.next()).body, "sooner");
      assert.ok(Date.now() - began >= 300);
      const message = await inbox.next();
      assert.equal(message.body, "later");
      assert.ok(Date.now() - began >= 700);
      assert.equal(message.headers.AMQ_SCHEDULED_DELAY, undefined);
      await inbox.unsubscribe();
    });

    test("what is rejected comes again, and says so", async () => {
      if (here.version === "1.0") return;
      const queue = name("queue");
      const inbox = await here.subscribe(queue, { ack: "client-individual" });
      await here.send(queue, {}, "once more");
      const first = await inbox.next();
      inbox.nack(first);
      const second = await inbox.next();
      assert.equal(second.headers["message-id"], first.headers["message-id"]);
      assert.notEqual(second.headers.ack, first.headers.ack);
      assert.equal(second.headers.redelivered, "true");
      assert.equal(second.headers["delivery-attempt"], "2");
      inbox.nack(second, { requeue: "false" });
      const dead = await here.subscribe(`/dlq${queue}`, { ack: "client" });
      const letter = await dead.next();
      assert.equal(letter.headers["message-id"], first.headers["message-id"]);
      dead.ack(letter);
      await dead.unsubscribe();
      await inbox.unsubscribe();
    });

    test("one acknowledgement stands for those before it, in client mode", async () => {
      const queue = name("queue");
      let inbox = await here.subscribe(queue, { ack: "client" });
      for (const body of ["1", "2", "3", "4"]) await here.send(queue, {}, body);
      const messages = [];
      for (let n = 0; n < 4; n++) messages.push(await inbox.next());
      inbox.ack(messages[2]);
      await inbox.unsubscribe();
      inbox = await here.subscribe(queue, {});
      assert.equal((await inbox.next()).body, "4", "only the last came back");
      assert.ok(await inbox.quiet(100));
      await inbox.unsubscribe();
    });

    test("a transaction is all or nothing", async () => {
      const queue = name("queue");
      const inbox = await here.subscribe(queue, {});
      const aborted = here.begin();
      aborted.send(queue, {}, "never");
      aborted.abort();
      const kept = here.begin();
      kept.send(queue, {}, "one");
      kept.send(queue, {}, "two");
      await here.send(queue, {}, "at once");
      kept.commit();
      assert.equal((await inbox.next()).body, "at once");
      assert.equal((await inbox.next()).body, "one");
      assert.equal((await inbox.next()).body, "two");
      assert.ok(await inbox.quiet(50));
      await inbox.unsubscribe();
    });

    test("a long body arrives whole", async () => {
      const queue = name("queue");
      const inbox = await here.subscribe(queue, {});
      // It does not put together what comes in pieces.
      if (client.name === "stompjs 2.3.3 over TCP") return;
      // Nothing beyond 16 bits: old clients cut a message between the halves of such a character.
      const body = "0123456789abcdef€".repeat(15_000);
      await here.send(queue, {}, body);
      assert.equal((await inbox.next(20_000)).body, body);
      await inbox.unsubscribe();
    });

    test("bytes arrive as they are", async () => {
      if (!client.name.startsWith("@stomp") || client.name.includes("SockJS")) return;
      const queue = name("queue");
      const inbox = await here.subscribe(queue, {});
      const bytes = Uint8Array.from({ length: 512 }, (_, n) => n % 256);
      await here.send(queue, {}, bytes);
      assert.deepEqual((await inbox.next()).bytes, bytes);
      await inbox.unsubscribe();
    });

    test("a topic reaches every subscriber, and those of a pattern", async () => {
      const topic = name("topic");
      const one = await here.subscribe(`${topic}.a`, {});
      const all = await here.subscribe(`${topic}.*`, {});
      await here.send(`${topic}.a`, {}, "to both");
      await here.send(`${topic}.b`, {}, "to one");
      assert.equal((await one.next()).body, "to both");
      const first = await all.next();
      assert.deepEqual([first.body, first.headers.destination, first.headers.offset], ["to both", `${topic}.a`, "1"]);
      assert.equal((await all.next()).body, "to one");
      assert.ok(await one.quiet(50));
      await one.unsubscribe();
      await all.unsubscribe();
    });

    test("an answer comes through a temporary queue", async () => {
      const queue = name("queue");
      const requests = await here.subscribe(queue, {});
      const replies = await here.subscribe("/temp-queue/replies", {});
      await here.send(queue, { "reply-to": "/temp-queue/replies", "correlation-id": "7" }, "ping");
      const request = await requests.next();
      await here.send(request.headers["reply-to"], { "correlation-id": request.headers["correlation-id"] }, "pong");
      const reply = await replies.next();
      assert.deepEqual([reply.body, reply.headers["correlation-id"]], ["pong", "7"]);
      await replies.unsubscribe();
      await requests.unsubscribe();
    });

    test("every session of a user gets its own copy", async () => {
      const other = await client.connect({ login: "alice" });
      const topic = `/user/queue/interop-${++count}`;
      const [mine, theirs] = [await here.subscribe(topic, { ack: "client" }), await other.subscribe(topic, { ack: "client" })];
      await here.send(topic.replace("/user/", "/user/alice/"), {}, "to alice");
      for (const box of [mine, theirs]) {
        const message = await box.next();
        assert.deepEqual([message.body, message.headers.destination], ["to alice", topic]);
        box.ack(message);
      }
      await other.disconnect();
      await mine.unsubscribe();
    });

    test("a durable subscription goes on where it was", async () => {
      const topic = name("topic");
      const durable = { id: `durable-${count}`, durable: "true", "auto-delete": "false", ack: "client" };
      const headers = { login: "bob", "client-id": "desk" };
      let client_ = await client.connect(headers);
      let inbox = await client_.subscribe(topic, durable);
      await here.send(topic, {}, "first");
      inbox.ack(await inbox.next());
      await client_.disconnect();
      await here.send(topic, {}, "while away");
      client_ = await client.connect(headers);
      inbox = await client_.subscribe(topic, durable);
      const message = await inbox.next();
      assert.equal(message.body, "while away");
      inbox.ack(message);
      await inbox.unsubscribe({ durable: "true" });
      await client_.disconnect();
    });

    test("a frame that cannot be done is told why", async () => {
      const client_ = await client.connect({ login: "alice" });
      client_.send("/queue/x", { delay: "soon" }, "never").catch(() => {});
      const error = await client_.error;
      assert.equal(error.headers.message, "bad-delay");
      assert.match(error.body, /10s/);
      await client_.kill();
    });

    test("what was not acknowledged comes again after the connection is lost", async () => {
      const queue = name("queue");
      const lost = await client.connect({ login: "alice" });
      const inbox = await lost.subscribe(queue, { ack: "client" });
      await here.send(queue, {}, "keep me");
      await inbox.next();
      await lost.kill();
      const again = await here.subscribe(queue, {});
      const message = await again.next();
      assert.deepEqual([message.body, message.headers.redelivered], ["keep me", "true"]);
      await again.unsubscribe();
    });
  });
}
