// A real server for the tests of one file: its own data directory, free ports, gone with the tests.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BINARY = process.env.POSTDATE_BINARY ?? join(ROOT, "target/release/postdate");

/** Starts a server; `{ http, stomp, stop, restart }` with addresses as `host:port`. */
export async function serve(...more) {
  const data = mkdtempSync(join(tmpdir(), "postdate-interop-"));
  let server;
  const start = async (http = "127.0.0.1:0", stomp = "127.0.0.1:0") => {
    const process_ = spawn(
      BINARY,
      ["serve", "--json", "--listen", "127.0.0.1:0", "--http", http, "--stomp", stomp, "--data-dir", data, ...more],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    for await (const line of createInterface({ input: process_.stdout })) {
      const { listening } = JSON.parse(line);
      return { process: process_, ...listening };
    }
    throw new Error("the server did not start");
  };
  const end = async (signal) => {
    const gone = new Promise((resolve) => server.process.once("exit", resolve));
    server.process.kill(signal);
    await gone;
  };
  server = await start();
  return {
    http: server.http,
    stomp: server.stomp,
    /** Kills it as a crash would and starts it again, on the same addresses. */
    async restart() {
      await end("SIGKILL");
      server = await start(server.http, server.stomp);
    },
    async stop() {
      await end("SIGTERM");
      rmSync(data, { recursive: true });
    },
  };
}
