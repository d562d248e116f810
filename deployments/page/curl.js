// A request as a command for a POSIX shell.

const PLAIN = /^[\w./:-]+$/;
const quoted = (text) => (PLAIN.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
// -F has a meaning for `@`, `<` and `;`.
const option = (value) => (PLAIN.test(value) ? "-F" : "--form-string");

/** `fields` are `[name, value]`; a key is named, never shown. */
export function curlOf({ url, fileName, fields, output, withKey }) {
  // curl itself reads `;` and `,` in a file's name, unless it stands in quotes of its own.
  const name = PLAIN.test(fileName) ? fileName : `"${fileName.replace(/["\\]/g, "\\$&")}"`;
  const parts = [
    `curl ${quoted(url)}`,
    ...(withKey ? ['-H "Authorization: Bearer $NULLSCALE_KEY"'] : []),
    `-F image=@${quoted(name)}`,
    ...fields.map(([field, value]) => `${option(value)} ${field}=${quoted(value)}`),
    `-o ${quoted(output)}`,
  ];
  return parts.join(" \\\n  ");
}
