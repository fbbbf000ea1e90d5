// A photo from the camera of this device.

const dialog = document.getElementById('camera');
const video = document.getElementById('viewfinder');
const note = document.getElementById('camera-note');
const shoot = document.getElementById('shoot');

const reasons = {
  NotAllowedError: 'The browser was told not to let this page use the camera. Its settings for this site can change that.',
  NotFoundError: 'No camera was found.',
  NotReadableError: 'The camera is in use by another program.',
};

function stop() {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}

async function open() {
  shoot.disabled = true;
  video.hidden = false;
  note.textContent = 'Waiting for the camera';
  dialog.showModal();
  if (!navigator.mediaDevices?.getUserMedia) {
    video.hidden = true;
    note.textContent = 'Browsers lend the camera only to pages that come over HTTPS or from localhost, and this one does ' +
        'not. On a phone, “Choose photos” offers the camera, too.';
    return;
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia(
        {video: {facingMode: 'environment', width: {ideal: 1920}, height: {ideal: 1080}}});
    video.srcObject = stream;
    if (!dialog.open) return stop(); // closed while the browser asked
    await video.play();
    note.textContent = '';
    shoot.disabled = false;
    shoot.focus();
  } catch (error) {
    video.hidden = true;
    note.textContent = reasons[error.name] ?? `The camera cannot be used: ${error.message}`;
  }
}

// `onPhoto` gets each photo as a File.
export function setUpCamera(onPhoto) {
  let taken = 0;
  document.getElementById('use-camera').addEventListener('click', open);
  document.getElementById('close-camera').addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', stop);
  shoot.addEventListener('click', () => {
    const canvas = document.createElement('canvas');
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext('2d').drawImage(video, 0, 0);
    canvas.toBlob((blob) => {
      if (blob) onPhoto(new File([blob], `camera ${++taken}.jpg`, {type: 'image/jpeg'}));
      dialog.close();
    }, 'image/jpeg', 0.95);
  });
}
