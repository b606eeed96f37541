// Takes the records of a batch through the user's `transform`, in order, up to the first that fails.
//
// In: a JSON array of [value as JSON text, recordId, streamId, logPosition, subject, type, headers as JSON text].
// Out: {"outcomes": [...], "error": {message, line, column}}. An outcome is null for a value that is no JSON, else
// [value as JSON text, what else the function changed or 0]; there are as many as there are records before the error.
(() => {
  "use strict";
  // The function may replace any of these for itself; it must not for us.
  const { parse, stringify } = JSON;
  const { isArray } = Array;
  const { isSafeInteger } = Number;

  // A transformation computes and returns: nothing here may wait, and mini-racer's timers would outlive the batch.
  globalThis.setTimeout = globalThis.clearTimeout = undefined;
  for (const name of ["Atomics", "SharedArrayBuffer", "WebAssembly"]) delete globalThis[name];

  const text = (value, name) => {
    if (typeof value !== "string") throw new TypeError(`record.${name} must be a text`);
    return value.toWellFormed(); // half a surrogate pair has no UTF-8
  };

  const texts = (headers) => {
    if (headers === undefined || headers === null) return {};
    if (typeof headers !== "object" || isArray(headers)) throw new TypeError("record.headers must be an object");
    const entries = {};
    for (const [name, value] of Object.entries(headers)) {
      if (value === undefined || value === null) continue;
      entries[name.toWellFormed()] = (typeof value === "string" ? value : String(stringify(value))).toWellFormed();
    }
    return entries;
  };

  const position = (value) => {
    if (!isSafeInteger(value) || value < 0) throw new TypeError("record.position.logPosition must be a whole number");
    return value;
  };

  const schemaType = (value) => {
    if (![1, 2, 3, 4].includes(value))
      throw new TypeError("record.schemaInfo.type must be 1 (json), 2 (protobuf), 3 (avro) or 4 (bytes)");
    return value;
  };

  const outcome = (record, [, recordId, streamId, logPosition, subject, type, headers]) => {
    const value = stringify(record.value);
    if (value === undefined) throw new TypeError(`record.value must be JSON, not ${typeof record.value}`);
    const changes = {};
    if (record.recordId !== recordId) changes.recordId = text(record.recordId, "recordId");
    if (record.position.streamId !== streamId) changes.streamId = text(record.position.streamId, "position.streamId");
    else if (record.streamId !== streamId) changes.streamId = text(record.streamId, "streamId");
    // One that was not changed is not sent back: as a number of JavaScript it may have lost its last digits.
    if (record.position.logPosition !== logPosition) changes.logPosition = position(record.position.logPosition);
    if (record.schemaInfo.subject !== subject) changes.subject = text(record.schemaInfo.subject, "schemaInfo.subject");
    if (record.schemaInfo.type !== type) changes.type = schemaType(record.schemaInfo.type);
    if (stringify(record.headers) !== headers) changes.headers = texts(record.headers);
    for (const _ in changes) return [value, changes];
    return [value, 0];
  };

  const refuse = (result) => {
    if (typeof result?.then === "function") throw new TypeError("transform returned a promise; it must not be async");
    throw new TypeError(
      `transform returned a value (${typeof result}); it must change the record that it is given, and return nothing`,
    );
  };

  const described = (error) => {
    const found = { message: "an error that cannot be shown", line: null, column: null };
    try {
      const message = error instanceof Error || typeof error !== "object" ? String(error) : stringify(error);
      found.message = message.slice(0, 1000).toWellFormed();
      const place = /transform\.js:(\d+):(\d+)/.exec(error.stack);
      if (place) [found.line, found.column] = [Number(place[1]), Number(place[2])];
    } catch {}
    return found;
  };

  return (batch) => {
    const outcomes = [];
    for (const given of parse(batch)) {
      const [json, recordId, streamId, logPosition, subject, type, headers] = given;
      let value;
      try {
        value = parse(json);
      } catch {
        outcomes.push(null);
        continue;
      }
      const record = {
        recordId,
        streamId,
        position: { streamId, logPosition },
        isTransformed: false,
        schemaInfo: { subject, type },
        headers: parse(headers),
        value,
      };
      try {
        const result = transform(record);
        if (result !== undefined && result !== null) refuse(result);
        outcomes.push(outcome(record, given));
      } catch (error) {
        return stringify({ outcomes, error: described(error) });
      }
    }
    return stringify({ outcomes, error: null });
  };
})();
//# sourceURL=sinkworker.js
