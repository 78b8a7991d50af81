// A receiver of notifications: prints each request as one line of JSON. Whether a signature is right it computes by itself,
// with the key in RECEIVER_KEY. It answers what the file in RECEIVER_ANSWER says, else 200; `hang` is no answer at all.
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const answer = () => {
  try {
    return readFileSync(process.env.RECEIVER_ANSWER, "utf8").trim();
  } catch {
    return "200";
  }
};

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks);
    const { "x-descope-gitops-timestamp": timestamp, "x-descope-gitops-signature": signature } = request.headers;
    const hmac = createHmac("sha256", process.env.RECEIVER_KEY).update(`${timestamp}.`).update(body).digest("hex");
    const status = answer();
    const { method, url, headers } = request;
    const isRecent = Math.abs(Date.now() / 1000 - Number(timestamp)) < 300;
    console.log(JSON.stringify({ method, url, headers, status, isSigned: signature === `sha256=${hmac}`, hasSignature: signature !== undefined, isRecent, body: JSON.parse(body) }));
    if (status === "hang") return;
    if (status.startsWith("3")) response.setHeader("location", "/elsewhere");
    response.statusCode = Number(status);
    response.end("ok");
  });
});
server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
