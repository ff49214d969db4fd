// How to publish to this server, with its own name in every line.

import { addCopy } from './copy.js';

const app = 'live';
const name = 'studio';

// A keyframe every 2 s whatever the frame rate, nothing held back for B-frames. Quoted for any shell, cmd.exe too.
const encode = '-c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -b:v 3M -force_key_frames "expr:gte(t,n_forced*2)" -c:a aac -b:a 128k';

export function guideTexts(hostname, port) {
  const server = `rtmp://${hostname}${port && port !== '1935' ? `:${port}` : ''}/${app}`;
  return {
    server,
    name,
    ffmpeg: `ffmpeg -re -i input.mp4 ${encode} -f flv ${server}/${name}`,
    test: `ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440:sample_rate=48000 ${encode} -f flv ${server}/${name}`,
  };
}

const labels = { server: 'the server address', name: 'the stream key', ffmpeg: 'the ffmpeg command', test: 'the test picture command' };

export function fillGuide(root) {
  const texts = guideTexts(location.hostname, document.documentElement.dataset.rtmpPort);
  for (const element of root.querySelectorAll('[data-fill]')) {
    // Lines break between options only.
    element.replaceChildren(...texts[element.dataset.fill].split(/ (?=-[a-z])/).flatMap((option, i) => {
      const span = document.createElement('span');
      span.textContent = option;
      return i > 0 ? [' ', span] : [span];
    }));
    addCopy(element.closest('dd, .command'), element, labels[element.dataset.fill]);
  }
}
