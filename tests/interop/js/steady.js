import { strict as assert } from "node:assert";
import { setTimeout as sleep } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import { call } from "./calls.js";

const CALLERS = 8;
const PAUSE = 5;
const TIMEOUT = 10_000;

// Calls from several callers, and prints how many calls there were and which failed.
export async function steady(milliseconds, once) {
  let calls = 0;
  const failures = {};
  const end = Date.now() + milliseconds;
  const caller = async (_, number) => {
    for (let n = 0; Date.now() < end; n++) {
      calls++;
      try {
        await once(`js-${process.pid}-${number}-${n}`, new Date(Date.now() + TIMEOUT));
      } catch (error) {
        if (error.code === undefined) throw error;
        failures[error.message] = (failures[error.message] ?? 0) + 1;
      }
      await sleep(PAUSE);
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  console.log(JSON.stringify({ calls, failures }));
}

export function echo(client) {
  return (_, deadline) => call(client, "Echo", { wait_milliseconds: 1 }, { deadline });
}

// Allocates a user, and converts it.
export function allocate(client, key) {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${key}`);
  return async (user, deadline) => {
    const options = { metadata, deadline };
    const { response } = await call(client, "AllocateUser", { experiment_id: "cta", user_identifier: user }, options);
    const assignment_id = response.assignment_id;
    assert.ok(assignment_id, `${user} has no assignment`);
    await call(client, "RecordConversion", { assignment_id, event_id: user }, options);
  };
}

// Makes a call, waits without any, and makes a call that takes as long.
export async function stayConnected(client, milliseconds) {
  await call(client, "Echo");
  await sleep(milliseconds);
  await call(client, "Echo");
  await call(client, "Echo", { wait_milliseconds: milliseconds });
}
