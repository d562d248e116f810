// A request as a command for a POSIX shell.

const PLAIN = /^[\w./:-]+$/;
const quoted = (text) => (PLAIN.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** `fields` are `[name, value]`; a key is named, never shown. */
export function curlOf({ url, fileName, fields, output, withKey }) {
  // curl itself reads `;` and `,` in a file's name, unless it stands in quotes of its own.
  const name = PLAIN.test(fileName) ? fileName : `"${fileName.replace(/["\\]/g, "\\$&")}"`;
  const parts = [
    `curl ${quoted(url)}`,
    ...(withKey ? ['-H "Authorization: Bearer $NULLSCALE_KEY"'] : []),
    `-F ${quoted(`image=@${name}`)}`.replace(/'image=@([\w./:-]+)'/, "image=@$1"),
    // Unlike -F, it takes a value that begins with @ or < as it stands.
    ...fields.map(([field, value]) => `--form-string ${field}=${quoted(value)}`),
    `-o ${quoted(output)}`,
  ];
  return parts.join(" \\\n  ");
}
