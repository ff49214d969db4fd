// Copies what the pages serve out of node_modules, with its licence. Run by `go generate`, after `npm ci`.
import { copyFileSync, mkdirSync } from 'node:fs';

const from = new URL('node_modules/hls.js/', import.meta.url);
const to = new URL('vendor/', import.meta.url);

mkdirSync(to, { recursive: true });
copyFileSync(new URL('dist/hls.min.js', from), new URL('hls.min.js', to));
copyFileSync(new URL('LICENSE', from), new URL('hls.LICENSE.txt', to));
