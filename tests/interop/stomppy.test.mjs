// stomp.py, from PyPI.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { serve } from "./server.mjs";

test("stomp.py in every version, over TCP and WebSocket", { timeout: 180_000 }, async () => {
  const server = await serve();
  const here = fileURLToPath(new URL(".", import.meta.url));
  const run = spawn("python3", ["-m", "unittest", "-v", "stomppy_test"], {
    cwd: here,
    env: { ...process.env, PYTHONPATH: `${here}python`, POSTDATE_HTTP: server.http, POSTDATE_STOMP: server.stomp },
    stdio: "inherit",
  });
  const code = await new Promise((resolve) => run.once("exit", resolve));
  await server.stop();
  assert.equal(code, 0);
});
