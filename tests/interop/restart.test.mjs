// Pitfall 5: what was accepted survives the server being killed, and is on time.

import assert from "node:assert/strict";
import { test } from "node:test";

import { clients } from "./clients.mjs";
import { serve } from "./server.mjs";

test("overdue, due and later messages come after a kill, each on time", { timeout: 60_000 }, async () => {
  const server = await serve();
  const [modern] = clients(server);
  let client = await modern.connect({ login: "alice" });
  const began = Date.now();
  for (const delay of [0, 200, 3_000]) await client.send("/queue/r", { delay: String(delay) }, String(delay));
  await server.restart();
  client = await modern.connect({ login: "alice" });
  const inbox = await client.subscribe("/queue/r", {});
  for (const delay of [0, 200, 3_000]) {
    const message = await inbox.next();
    assert.equal(message.body, String(delay));
    assert.ok(Date.now() - began >= delay, `${delay} came early`);
  }
  await client.disconnect();
  await server.stop();
});
