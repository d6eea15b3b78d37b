// A client on grpc-js. `node client.js [options] CASE` fails if the server does not answer as it should.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import { cases } from "./cases.js";
import { allocate, echo, stayConnected, steady } from "./steady.js";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    target: { type: "string" }, // HOST:PORT or unix:PATH
    descriptors: { type: "string" }, // file with the descriptors of what is called
    ca: { type: "string" }, // certificate that signed the server's
    "service-config": { type: "string" }, // file with a service config
    keepalive: { type: "boolean" }, // send a PING every 10 seconds
    seconds: { type: "string" }, // how long to call
    key: { type: "string" }, // API key
  },
});

const channelOptions = {};
if (options["service-config"]) {
  channelOptions["grpc.service_config"] = readFileSync(options["service-config"], "utf8");
}
if (options.keepalive) {
  channelOptions["grpc.keepalive_time_ms"] = 10_000;
  channelOptions["grpc.keepalive_timeout_ms"] = 5_000;
  channelOptions["grpc.keepalive_permit_without_calls"] = 1;
}
const [name] = positionals;
if (name === "compressed") {
  channelOptions["grpc.default_compression_algorithm"] = grpc.compressionAlgorithms.gzip;
}

const security = options.ca
  ? grpc.credentials.createSsl(readFileSync(options.ca))
  : grpc.credentials.createInsecure();
const descriptors = loader.loadFileDescriptorSetFromBuffer(readFileSync(options.descriptors), {
  keepCase: true,
  defaults: true,
});
const packages = grpc.loadPackageDefinition(descriptors);
const connect = (service) => new service(options.target, security, channelOptions);

const milliseconds = 1000 * Number(options.seconds);
if (name === "steady") {
  await steady(milliseconds, echo(connect(packages.interop.Interop)));
} else if (name === "samplit") {
  await steady(milliseconds, allocate(connect(packages.samplit.allocation.v1.AllocationService), options.key));
} else if (name === "keepalive") {
  await stayConnected(connect(packages.interop.Interop), milliseconds);
} else {
  await cases[name](connect(packages.interop.Interop), connect(packages.interop.Absent));
}
process.exit();
