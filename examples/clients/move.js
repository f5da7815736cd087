// Move a file and wait for it: node move.js SOURCE DESTINATION PATH [SIZE]
//
// DATAMOVER_URL is https://HOST:10700/data_mover, DATAMOVER_LOGIN is NAME:PASSWORD,
// DATAMOVER_CA a file with the certificate authority to trust (default: the system's).
const fs = require('fs');
const util = require('util');
const xmlrpc = require('xmlrpc');

const WAIT = 60; // seconds: the most that jobs.wait takes
const ENDED = ['COMPLETED', 'PARTIAL', 'FAILED', 'CANCELLED'];

const url = process.env.DATAMOVER_URL;
const options = {
  url,
  headers: { Authorization: 'Basic ' + Buffer.from(process.env.DATAMOVER_LOGIN).toString('base64') },
};
if (process.env.DATAMOVER_CA) options.ca = fs.readFileSync(process.env.DATAMOVER_CA);
const mover = url.startsWith('https:') ? xmlrpc.createSecureClient(options) : xmlrpc.createClient(options);

function call(method, ...parameters) {
  options.signal = AbortSignal.timeout((WAIT + 30) * 1000); // longer than jobs.wait
  return util.promisify((done) => mover.methodCall(method, parameters, done))();
}

async function main([source, destination, path, size]) {
  const request = { source, destination, path, label: `Node: ${path}` };
  if (size) request.size = Number(size); // exact up to 2^53, as every size here
  const { id } = await call('jobs.submit', request);
  let job;
  do {
    job = await call('jobs.wait', id, WAIT);
    console.log(`job ${id}, ${job.label}: ${job.status}, ${job.bytes_done} of ${job.bytes_total || 0} bytes`);
  } while (!ENDED.includes(job.status));
  if (job.status !== 'COMPLETED') throw new Error(job.error.message);
  for (const file of await call('jobs.files', id)) {
    console.log(`${file.path}: ${file.size} bytes, ${file.digest}`);
  }
}

main(process.argv.slice(2)).catch((error) => {
  const failed = error.res && error.res.statusCode !== 200; // what is no XML-RPC at all
  console.error(error.faultString || (failed ? `no answer: HTTP ${error.res.statusCode}` : error.message));
  process.exitCode = 1;
});
