// The open video in the colours it would be written with: CSS's filter functions, as i2v/video/look.py has them.
(brightness, contrast, saturation, warmth) => {
  const video = document.querySelector("#i2v-gallery-detail .i2v-stage video");
  if (!video) return;
  let gains = document.getElementById("i2v-warmth");
  if (!gains) {
    const holder = document.createElement("div");
    holder.innerHTML =
      '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><filter id="i2v-warmth"' +
      ' color-interpolation-filters="sRGB"><feComponentTransfer><feFuncR type="linear"/><feFuncB type="linear"/>' +
      "</feComponentTransfer></filter></svg>";
    document.body.append(holder);
    gains = document.getElementById("i2v-warmth");
  }
  gains.querySelector("feFuncR").setAttribute("slope", 1 + WARMTH_GAIN * warmth);
  gains.querySelector("feFuncB").setAttribute("slope", 1 - WARMTH_GAIN * warmth);
  const same = brightness === 1 && contrast === 1 && saturation === 1 && warmth === 0;
  const warm = warmth ? "url(#i2v-warmth) " : "";
  video.style.filter = same
    ? ""
    : `${warm}brightness(${brightness}) contrast(${contrast}) saturate(${saturation})`;
}
