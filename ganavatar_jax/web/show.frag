#version 300 es
// Shows the rays on the canvas. A draw, not a blit: browsers do not notice that a blit changed it.
precision highp float;
uniform sampler2D rays;
uniform float canvasSide;
out vec4 result;
void main() { result = texture(rays, gl_FragCoord.xy / canvasSide); }
