#version 300 es
// One ray a pixel through the radiance field; the same samples and sums as rendering/volume.py.
// Constants in capitals are written above this line's place by renderer.js.
precision highp float;
precision highp int;
precision highp sampler2DArray;
precision highp sampler3D;
//CONSTANTS

layout(std140) uniform Decoder {
  mat4 first[HIDDEN_GROUPS * CHANNEL_GROUPS];
  vec4 firstBias[HIDDEN_GROUPS];
  mat4 second[HIDDEN_GROUPS];
  vec4 secondBias;  // density, red, green, blue
};
uniform sampler2DArray planes;
uniform sampler3D occupancy;
uniform mat4 cam2world;
uniform vec4 lens;    // focal lengths, principal point; normalised
uniform float skew;
uniform float side;   // rays along a side of the picture
uniform vec2 bounds;  // first and last distance, world units
uniform int view;     // 0 colour, 1 opacity, 2 depth
out vec4 result;

const float RGB_PADDING = 0.001;
const float TRANSMITTANCE_EPSILON = 1e-10;

float softplus(float x) { return max(x, 0.0) + log(1.0 + exp(-abs(x))); }
vec4 softplus(vec4 x) { return max(x, 0.0) + log(1.0 + exp(-abs(x))); }

bool isOccupied(vec3 point) {
  vec3 place = point / BOX_WARP + 0.5;
  if (any(lessThan(place, vec3(0.0))) || any(greaterThan(place, vec3(1.0)))) return false;
  return texture(occupancy, place).r > 0.5;
}

// Place in a plane with its border of one zero texel; far outside it is the border's.
vec2 texelPlace(vec2 coordinate) {
  return ((coordinate + 1.0) * (0.5 * PLANE_SIDE) + 1.0) / (PLANE_SIDE + 2.0);
}

// Density, red, green, blue at a point.
vec4 query(vec3 point) {
  if (!isOccupied(point)) return vec4(EMPTY_DENSITY, 0.0, 0.0, 0.0);
  vec3 scaled = point * (2.0 / BOX_WARP);
  vec2 xy = texelPlace(scaled.xy);
  vec2 xz = texelPlace(scaled.xz);
  vec2 third = texelPlace(scaled.THIRD_PLANE);
  vec4 features[CHANNEL_GROUPS];
  for (int c = 0; c < CHANNEL_GROUPS; c++) {
    features[c] = (texture(planes, vec3(xy, float(c)))
                   + texture(planes, vec3(xz, float(c + CHANNEL_GROUPS)))
                   + texture(planes, vec3(third, float(c + 2 * CHANNEL_GROUPS)))) / 3.0;
  }
  vec4 decoded = secondBias;
  for (int h = 0; h < HIDDEN_GROUPS; h++) {
    vec4 hidden = firstBias[h];
    for (int c = 0; c < CHANNEL_GROUPS; c++) hidden += first[h * CHANNEL_GROUPS + c] * features[c];
    decoded += second[h] * softplus(hidden);
  }
  vec3 color = (1.0 + 2.0 * RGB_PADDING) / (1.0 + exp(-decoded.yzw)) - RGB_PADDING;
  return vec4(decoded.x, color);
}

float coarsePlace(int index, float near, float far) {
  float fraction = (float(index) + 0.5) / float(COARSE - 1);
#if DISPARITY
  return 1.0 / ((1.0 / near) * (1.0 - fraction) + (1.0 / far) * fraction);
#else
  return near + (far - near) * fraction;
#endif
}

float intervalAlpha(float before, float after, float length) {
  return 1.0 - exp(-softplus(0.5 * (before + after) - 1.0) * length);
}

#if FINE > 0
// Distances where the coarse weights are, by inverting their distribution; see sampling.importance.
void placeFine(float t[COARSE], float weights[COARSE - 1], out float fine[FINE]) {
  float cdf[COARSE - 2];
  cdf[0] = 0.0;
  for (int j = 1; j < COARSE - 2; j++) {
    float here = max(weights[j - 1], weights[j]);
    float next = max(weights[j], weights[j + 1]);
    cdf[j] = cdf[j - 1] + 0.5 * (here + next) + 0.01 + 1e-5;
  }
  float total = cdf[COARSE - 3];
  int bin = 0;
  for (int k = 0; k < FINE; k++) {
    float u = (float(k) + 0.5) / float(FINE) * total;
    while (bin < COARSE - 4 && cdf[bin + 1] <= u) bin++;
    float width = cdf[bin + 1] - cdf[bin];
    float low = 0.5 * (t[bin] + t[bin + 1]);
    float high = 0.5 * (t[bin + 1] + t[bin + 2]);
    fine[k] = low + (u - cdf[bin]) / (width < 1e-5 * total ? total : width) * (high - low);
  }
}
#endif

// Whether the ray meets the cube, and where.
bool meetCube(vec3 origin, vec3 direction, out float near, out float far) {
  vec3 a = (-0.5 * BOX_WARP - origin) / direction;
  vec3 b = (0.5 * BOX_WARP - origin) / direction;
  vec3 low = min(a, b), high = max(a, b);
  near = max(max(low.x, low.y), low.z);
  far = min(min(high.x, high.y), high.z);
  return far > near;
}

// Sums of the compositing, interval by interval.
struct Sums { vec3 color; float opacity; float distance; float through; };

void addInterval(inout Sums sums, vec4 before, vec4 after, float from, float to) {
  float alpha = intervalAlpha(before.x, after.x, to - from);
  float weight = alpha * sums.through;
  sums.color += 0.5 * weight * (before.yzw + after.yzw);
  sums.opacity += weight;
  sums.distance += 0.5 * weight * (from + to);
  sums.through *= 1.0 - alpha + TRANSMITTANCE_EPSILON;
}

Sums march(vec3 origin, vec3 direction, float near, float far) {
  Sums sums = Sums(vec3(0.0), 0.0, 0.0, 1.0);
  float t[COARSE];
  vec4 sampled[COARSE];
  bool empty = true;
  for (int i = 0; i < COARSE; i++) {
    t[i] = coarsePlace(i, near, far);
    vec3 point = origin + t[i] * direction;
    empty = empty && !isOccupied(point);
    sampled[i] = query(point);
  }
  if (empty) return sums;
#if FINE > 0
  float weights[COARSE - 1];
  float through = 1.0;
  for (int i = 0; i < COARSE - 1; i++) {
    float alpha = intervalAlpha(sampled[i].x, sampled[i + 1].x, t[i + 1] - t[i]);
    weights[i] = alpha * through;
    through *= 1.0 - alpha + TRANSMITTANCE_EPSILON;
  }
  float fine[FINE];
  placeFine(t, weights, fine);
  // Both rise, so that the two are merged as they are composited.
  int i = 0, k = 0;
  float last = 0.0;
  vec4 before = vec4(0.0);
  for (int step = 0; step < COARSE + FINE; step++) {
    bool isCoarse = k >= FINE || (i < COARSE && t[min(i, COARSE - 1)] <= fine[min(k, FINE - 1)]);
    float place = isCoarse ? t[min(i, COARSE - 1)] : fine[min(k, FINE - 1)];
    vec4 after = isCoarse ? sampled[min(i, COARSE - 1)] : query(origin + place * direction);
    if (isCoarse) i++; else k++;
    if (step > 0) addInterval(sums, before, after, last, place);
    if (sums.through < 1e-4) break;
    last = place;
    before = after;
  }
#else
  for (int i = 1; i < COARSE; i++) addInterval(sums, sampled[i - 1], sampled[i], t[i - 1], t[i]);
#endif
  return sums;
}

void main() {
  // The first row of the picture is its last in the frame buffer.
  float u = gl_FragCoord.x / side, v = 1.0 - gl_FragCoord.y / side;
  float x = (u - lens.z + lens.w * skew / lens.y - skew * v / lens.y) / lens.x;
  vec3 direction = normalize(mat3(cam2world) * vec3(x, (v - lens.w) / lens.y, 1.0));
  vec3 origin = cam2world[3].xyz;
  float near = bounds.x, far = bounds.y;
  bool meets = true;
#if AUTO_BOUNDS
  meets = meetCube(origin, direction, near, far);
#endif
  Sums sums = Sums(vec3(0.0), 0.0, 0.0, 1.0);
  if (meets) sums = march(origin, direction, near, far);
  vec3 color = sums.color + WHITE_BACK * (1.0 - sums.opacity);
  if (view == 1) color = vec3(sums.opacity);
  if (view == 2) {
    float distance = sums.opacity > 0.0 ? sums.distance / sums.opacity : length(origin) + BOX_WARP;
    color = vec3(1.0 - (distance - length(origin) + 0.5 * BOX_WARP) / BOX_WARP);
  }
  result = vec4(clamp(color, 0.0, 1.0), 1.0);
}
