// The demo page in a browser: connect, subscribe, send later, reject, acknowledge; over every transport it has.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { browse } from "./browser.mjs";
import { serve } from "./server.mjs";

const server = await serve();
after(() => server.stop());

describe("the demo page", { timeout: 180_000 }, () => {
  let browser;
  before(async () => (browser = await browse()));
  after(() => browser.close());

  for (const transport of ["ws", "sockjs", "xhr_streaming", "xhr"]) {
    test(`a message is sent later, rejected, comes again and is acknowledged: ${transport}`, async () => {
      const page = await browser.newPage();
      const complaints = [];
      page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
      page.on("pageerror", (error) => complaints.push(String(error)));
      await page.goto(`http://${server.http}/demo`);
      await page.selectOption("#transport", transport);
      await page.click("#do-connect");
      await page.waitForSelector("#state[data-kind=up]");
      await page.fill("#sub-destination", `/queue/demo-${transport}`);
      await page.click("#subscribe button");
      await page.waitForSelector("#subscriptions [data-kind=good]");
      await page.fill("#send-destination", `/queue/demo-${transport}`);
      await page.fill("#send-body", "grüße <b>€</b>");
      await page.fill("#send-delay", "1.5");
      const began = Date.now();
      await page.click("#send button.main");
      await page.waitForFunction(() => /due in/.test(document.querySelector("#sent").textContent));
      const first = page.locator("#received li");
      await first.waitFor();
      assert.ok(Date.now() - began >= 1_500, "not early");
      assert.equal(await first.locator(".body").textContent(), "grüße <b>€</b>");
      assert.match(await first.locator(".about").textContent(), /attempt 1/);
      await first.getByRole("button", { name: "Reject" }).click();
      await page.waitForFunction(() => /attempt 2, redelivered/.test(document.querySelector("#received").textContent));
      await page.getByRole("button", { name: "Acknowledge" }).click();
      await page.waitForFunction(() => /acknowledged/.test(document.querySelector("#received").textContent));
      if (process.env.SCREENSHOT && transport === "ws") {
        await page.setViewportSize({ width: 1200, height: 800 });
        await page.screenshot({ path: `${process.env.SCREENSHOT}-wide.png` });
        await page.setViewportSize({ width: 380, height: 900 });
        await page.screenshot({ path: `${process.env.SCREENSHOT}-narrow.png`, fullPage: true });
      }
      await page.click("#do-disconnect");
      await page.waitForFunction(() => /disconnected/.test(document.querySelector("#state").textContent));
      assert.deepEqual(complaints, []);
      await page.close();
    });
  }
});
