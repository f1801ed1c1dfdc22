// The clients under one interface, each used as its documentation shows it.
//
// connect({ ...headers }) gives { version, send, subscribe, begin, disconnect, kill, error }:
//   send(destination, headers, body)        resolves with the headers of the RECEIPT
//   subscribe(destination, headers)         resolves with a Subscription when the RECEIPT came
//   error                                   resolves with the ERROR frame's headers and body
//   Subscription: next(), ack(message, headers), nack(message, headers), unsubscribe(headers)
//   message: { headers, body, bytes }

import { Client, Versions } from "@stomp/stompjs";
import { TCPWrapper } from "@stomp/tcp-wrapper";
import { createRequire } from "node:module";
import { WebSocket } from "ws";

const require = createRequire(import.meta.url);
const legacy = require("stompjs");
const SockJS = require("sockjs-client");
const webstomp = require("webstomp-client");

/** What is waited for; fails when the server says ERROR instead. */
const unless = (error, wanted) =>
  Promise.race([wanted, error.then((frame) => Promise.reject(new Error(`ERROR instead: ${frame.body ?? frame}`)))]);

let count = 0;
const unique = (what) => `${what}-${++count}`;

/** A queue of what came and who waits for it. */
export class Mailbox {
  #here = [];
  #waiting = [];
  put(item) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(item);
    else this.#here.push(item);
  }
  /** The next; fails when none comes in time. */
  next(within = 10_000) {
    if (this.#here.length > 0) return Promise.resolve(this.#here.shift());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`nothing came within ${within} ms`)), within);
      this.#waiting.push((item) => {
        clearTimeout(timer);
        resolve(item);
      });
    });
  }
  /** Whether nothing comes for so long. */
  async quiet(ms) {
    await new Promise((resolve) => setTimeout(resolve, ms));
    return this.#here.length === 0;
  }
}

/** @stomp/stompjs, over whatever `socket()` makes. */
function modern(name, socket, versions) {
  return {
    name,
    escapes: true,
    async connect(headers = {}) {
      let failed;
      const error = new Promise((resolve) => (failed = resolve));
      const client = new Client({
        webSocketFactory: socket,
        connectHeaders: headers,
        reconnectDelay: 0,
        ...(versions ? { stompVersions: new Versions(versions) } : {}),
      });
      await new Promise((resolve, reject) => {
        client.onConnect = resolve;
        client.onStompError = (frame) => {
          failed({ headers: frame.headers, body: frame.body });
          reject(new Error(`${frame.headers.message}: ${frame.body}`));
        };
        client.onWebSocketError = reject;
        client.activate();
      });
      const receipt = () => {
        const id = unique("receipt");
        return [id, new Promise((resolve) => client.watchForReceipt(id, (frame) => resolve(frame.headers)))];
      };
      return {
        version: client.connectedVersion,
        error,
        send(destination, headers, body) {
          const [id, done] = receipt();
          const content = body instanceof Uint8Array ? { binaryBody: body } : { body };
          client.publish({ destination, headers: { ...headers, receipt: id }, ...content });
          return unless(error, done);
        },
        async subscribe(destination, headers) {
          const box = new Mailbox();
          const [id, done] = receipt();
          const take = (m) => box.put({ headers: m.headers, get body() { return m.body; }, bytes: m.binaryBody, own: m });
          const subscription = client.subscribe(destination, take, { ...headers, receipt: id });
          await unless(error, done);
          return {
            next: (ms) => box.next(ms),
            quiet: (ms) => box.quiet(ms),
            ack: (message, headers) => message.own.ack(headers),
            nack: (message, headers) => message.own.nack(headers),
            async unsubscribe(headers) {
              const [id, done] = receipt();
              subscription.unsubscribe({ ...headers, receipt: id });
              await unless(error, done);
            },
          };
        },
        begin() {
          const transaction = client.begin(unique("transaction"));
          return {
            send: (destination, headers, body) =>
              client.publish({ destination, headers: { ...headers, transaction: transaction.id }, body }),
            ack: (message) => message.own.ack({ transaction: transaction.id }),
            commit: () => transaction.commit(),
            abort: () => transaction.abort(),
          };
        },
        disconnect: () => client.deactivate(),
        kill: () => client.forceDisconnect() ?? client.deactivate({ force: true }),
      };
    },
  };
}

/** webstomp-client and its ancestor stompjs 2.3.3: neither escapes, and only the first knows receipts of subscriptions. */
function classic(name, over, options) {
  return {
    name,
    escapes: false,
    async connect(headers = {}) {
      const client = over();
      client.debug = () => {};
      client.heartbeat = { outgoing: 10_000, incoming: 10_000, ...options?.heartbeat };
      let failed;
      const error = new Promise((resolve) => (failed = resolve));
      const receipts = new Map();
      client.onreceipt = (frame) => receipts.get(frame.headers["receipt-id"])?.(frame.headers);
      const connected = await new Promise((resolve, reject) => {
        client.connect(headers, resolve, (frame) => {
          failed(frame);
          reject(new Error(frame?.body ?? frame));
        });
      });
      const receipt = () => {
        const id = unique("receipt");
        return [id, new Promise((resolve) => receipts.set(id, resolve))];
      };
      return {
        version: connected.headers.version,
        error,
        send(destination, headers, body) {
          const [id, done] = receipt();
          const all = { ...headers, receipt: id };
          // The one takes (destination, body, headers), the other the two last the other way round.
          if (options?.headersFirst) client.send(destination, all, body);
          else client.send(destination, body, all);
          return unless(error, done);
        },
        async subscribe(destination, headers) {
          const box = new Mailbox();
          const [id, done] = receipt();
          const take = (m) => box.put({ headers: m.headers, body: m.body, own: m });
          const subscription = client.subscribe(destination, take, { ...headers, receipt: id });
          await unless(error, done);
          return {
            next: (ms) => box.next(ms),
            quiet: (ms) => box.quiet(ms),
            ack: (message, headers) => message.own.ack(headers ?? {}),
            nack: (message, headers) => message.own.nack(headers ?? {}),
            unsubscribe: async (headers) => subscription.unsubscribe(headers),
          };
        },
        begin() {
          const transaction = client.begin(unique("transaction"));
          const send = (destination, headers, body) => {
            const all = { ...headers, transaction: transaction.id };
            if (options?.headersFirst) client.send(destination, all, body);
            else client.send(destination, body, all);
          };
          return {
            send,
            ack: (message) => message.own.ack({ transaction: transaction.id }),
            commit: () => transaction.commit(),
            abort: () => transaction.abort(),
          };
        },
        disconnect: () => new Promise((resolve) => client.disconnect(resolve)),
        kill: () => client.ws.close(),
      };
    },
  };
}

/** Every client there is, for a server. */
export function clients({ http, stomp }) {
  const [host, port] = stomp.split(":");
  const ws = `ws://${http}/ws`;
  const sockjs = (transports) => () => new SockJS(`http://${http}/sockjs`, null, { transports });
  const webSocket = (protocols) => () => new WebSocket(ws, protocols);
  return [
    modern("@stomp/stompjs over WebSocket", webSocket(Versions.default.protocolVersions())),
    modern("@stomp/stompjs over WebSocket, 1.1 only", webSocket(["v11.stomp"]), ["1.1"]),
    modern("@stomp/stompjs over WebSocket, 1.0 only", webSocket(["v10.stomp"]), ["1.0"]),
    modern("@stomp/stompjs over WebSocket without a sub-protocol", webSocket()),
    modern("@stomp/stompjs over TCP", () => new TCPWrapper(host, Number(port))),
    modern("@stomp/stompjs over SockJS, websocket", sockjs(["websocket"])),
    modern("@stomp/stompjs over SockJS, xhr-streaming", sockjs(["xhr-streaming"])),
    modern("@stomp/stompjs over SockJS, xhr-polling", sockjs(["xhr-polling"])),
    classic("webstomp-client over WebSocket", () =>
      webstomp.over(new WebSocket(ws, ["v10.stomp", "v11.stomp", "v12.stomp"])),
    ),
    classic("webstomp-client over SockJS", () => webstomp.over(sockjs(["websocket"])(), { protocols: ["v10.stomp", "v11.stomp", "v12.stomp"] })),
    classic("stompjs 2.3.3 over WebSocket", () => legacy.over(new WebSocket(ws, ["v10.stomp", "v11.stomp"])), {
      headersFirst: true,
    }),
    classic("stompjs 2.3.3 over TCP", () => legacy.overTCP(host, Number(port)), { headersFirst: true }),
  ];
}
