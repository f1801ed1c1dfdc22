// A page as people write it: sockjs-client and a STOMP client, in a browser.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";

import { browse } from "./browser.mjs";
import { serve } from "./server.mjs";

const script = (path) => new URL(`node_modules/${path}`, import.meta.url);
const scripts = {
  "/sockjs.js": script("sockjs-client/dist/sockjs.js"),
  "/stomp.js": script("@stomp/stompjs/bundles/stomp.umd.js"),
  "/webstomp.js": script("webstomp-client/dist/webstomp.js"),
};

const server = await serve();
// Pages come from another origin, as they do from a site of its own.
const site = createServer((request, response) => {
  const file = scripts[request.url];
  response.setHeader("content-type", file ? "text/javascript" : "text/html");
  const tags = Object.keys(scripts).map((src) => `<script src="${src}"></script>`);
  response.end(file ? readFileSync(file) : `<!doctype html><title>page</title>${tags.join("")}`);
});
await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
after(async () => {
  site.close();
  await server.stop();
});

describe("a page in a browser", { timeout: 180_000 }, () => {
  let browser;
  let page;
  before(async () => {
    browser = await browse();
    page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${site.address().port}/`);
  });
  after(() => browser.close());

  for (const transport of [null, "websocket", "xhr-streaming", "xhr-polling"]) {
    test(`@stomp/stompjs over ${transport ? `SockJS, ${transport}` : "WebSocket"}`, async () => {
      const received = await page.evaluate(
        ([http, transport]) =>
          new Promise((resolve, reject) => {
            const socket = () =>
              transport
                ? new SockJS(`http://${http}/sockjs`, null, { transports: [transport] })
                : new WebSocket(`ws://${http}/ws`, ["v12.stomp", "v11.stomp", "v10.stomp"]);
            const client = new StompJs.Client({ webSocketFactory: socket, reconnectDelay: 0 });
            client.onStompError = (frame) => reject(new Error(frame.body));
            client.onConnect = () => {
              const queue = `/queue/page-${transport}`;
              client.subscribe(
                queue,
                async (message) => {
                  message.ack();
                  const { body, headers } = message;
                  await client.deactivate();
                  resolve({ body, redelivered: headers.redelivered });
                },
                { ack: "client" },
              );
              client.publish({ destination: queue, body: "grüße €", headers: { delay: "200" } });
            };
            client.activate();
          }),
        [server.http, transport],
      );
      assert.deepEqual(received, { body: "grüße €", redelivered: "false" });
    });
  }

  test("webstomp-client over SockJS, whichever transport it likes", async () => {
    const body = await page.evaluate(
      (http) =>
        new Promise((resolve, reject) => {
          const client = webstomp.over(new SockJS(`http://${http}/sockjs`), { debug: false });
          client.connect(
            { login: "alice" },
            () => {
              client.subscribe("/topic/page", (message) => client.disconnect(() => resolve(message.body)));
              client.send("/topic/page", "to everybody", {});
            },
            reject,
          );
        }),
      server.http,
    );
    assert.equal(body, "to everybody");
  });
});
