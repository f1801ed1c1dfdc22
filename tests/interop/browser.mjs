// A real browser, headless, that talks to nobody but this machine.

import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

/** Where the browser is; undefined when there is none. */
export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** A browser with an empty profile. */
export function browse() {
  return chromium.launchPersistentContext(mkdtempSync(join(tmpdir(), "postdate-browser-")), {
    executablePath: CHROMIUM,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}
