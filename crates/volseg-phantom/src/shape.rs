//! Solids as signed distances in mm (negative inside), with boxes around them.

/// A point or vector in mm: right, anterior, superior.
pub(crate) type V3 = [f32; 3];

#[inline]
pub(crate) fn sub(a: V3, b: V3) -> V3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}
#[inline]
pub(crate) fn add(a: V3, b: V3) -> V3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}
#[inline]
pub(crate) fn scale(a: V3, s: f32) -> V3 {
    a.map(|v| v * s)
}
#[inline]
pub(crate) fn dot(a: V3, b: V3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}
#[inline]
pub(crate) fn cross(a: V3, b: V3) -> V3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}
#[inline]
pub(crate) fn length(a: V3) -> f32 {
    dot(a, a).sqrt()
}
pub(crate) fn unit(a: V3) -> V3 {
    scale(a, 1.0 / length(a).max(1e-6))
}
pub(crate) fn mix(a: V3, b: V3, t: f32) -> V3 {
    [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t]
}

/// Rows of a rotation: turns by `angles` (radians) about x, then y, then z.
pub(crate) fn rotation(angles: V3) -> [V3; 3] {
    let [(sx, cx), (sy, cy), (sz, cz)] = angles.map(f32::sin_cos);
    [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
}

/// Matrix times vector.
#[inline]
pub(crate) fn turn(m: &[V3; 3], v: V3) -> V3 {
    [dot(m[0], v), dot(m[1], v), dot(m[2], v)]
}

/// Transposed matrix times vector: the inverse of [`turn`].
#[inline]
pub(crate) fn turn_back(m: &[V3; 3], v: V3) -> V3 {
    [0, 1, 2].map(|c| m[0][c] * v[0] + m[1][c] * v[1] + m[2][c] * v[2])
}

/// A solid.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// A cone with round ends, flattened along y by `flat` (1 = round).
    Capsule { a: V3, b: V3, ra: f32, rb: f32, flat: f32 },
    /// An ellipsoid; `axes` are rows of a rotation from the outer frame into its own, `bend` shears its x by z².
    Ellipsoid { centre: V3, radii: V3, axes: [V3; 3], bend: f32 },
    /// A plate of half-thickness `r` around a triangle.
    Triangle { a: V3, b: V3, c: V3, r: f32 },
    /// An elliptic cylinder along z with its side drawn in by `waist` at mid height.
    Drum { centre: V3, radii: [f32; 2], half: f32, waist: f32 },
}

impl Shape {
    pub(crate) fn ball(centre: V3, r: f32) -> Self {
        Self::Capsule { a: centre, b: centre, ra: r, rb: r, flat: 1.0 }
    }

    pub(crate) fn ellipsoid(centre: V3, radii: V3) -> Self {
        Self::Ellipsoid { centre, radii, axes: rotation([0.0; 3]), bend: 0.0 }
    }

    /// Corners of a box that holds it.
    pub(crate) fn bounds(&self) -> [V3; 2] {
        let around = |points: &[V3], r: f32| {
            let low = [0, 1, 2].map(|k| points.iter().map(|p| p[k]).fold(f32::MAX, f32::min) - r);
            let high = [0, 1, 2].map(|k| points.iter().map(|p| p[k]).fold(f32::MIN, f32::max) + r);
            [low, high]
        };
        match self {
            Self::Capsule { a, b, ra, rb, .. } => around(&[*a, *b], ra.max(*rb)),
            Self::Triangle { a, b, c, r } => around(&[*a, *b, *c], *r),
            Self::Ellipsoid { centre, radii, axes, bend } => {
                let half =
                    [0, 1, 2].map(|k| (0..3).map(|i| (axes[i][k] * radii[i]).powi(2)).sum::<f32>().sqrt() + bend.abs());
                [sub(*centre, half), add(*centre, half)]
            }
            Self::Drum { centre, radii, half, .. } => {
                let h = [radii[0], radii[1], *half];
                [sub(*centre, h), add(*centre, h)]
            }
        }
    }

    /// Signed distance; exact for capsules and plates, a first-order estimate for ellipsoids.
    #[inline]
    pub(crate) fn distance(&self, p: V3) -> f32 {
        match self {
            Self::Capsule { a, b, ra, rb, flat } => {
                let (ab, ap) = (sub(*b, *a), sub(p, *a));
                let t = (dot(ap, ab) / dot(ab, ab).max(1e-6)).clamp(0.0, 1.0);
                let mut d = sub(ap, scale(ab, t));
                d[1] *= *flat;
                length(d) - (ra + (rb - ra) * t)
            }
            Self::Ellipsoid { centre, radii, axes, bend } => {
                let mut q = turn(axes, sub(p, *centre));
                if *bend != 0.0 {
                    q[0] += bend * (q[2] / radii[2]).powi(2);
                }
                let u = [q[0] / radii[0], q[1] / radii[1], q[2] / radii[2]];
                let n = length(u);
                let g = length([u[0] / radii[0], u[1] / radii[1], u[2] / radii[2]]);
                if g < 1e-6 { -radii[0].min(radii[1]).min(radii[2]) } else { n * (n - 1.0) / g }
            }
            Self::Triangle { a, b, c, r } => triangle(p, *a, *b, *c) - r,
            Self::Drum { centre, radii, half, waist } => {
                let d = sub(p, *centre);
                let z = (d[2] / half).clamp(-1.0, 1.0);
                let narrow = 1.0 - waist * (1.0 - z * z);
                let n = ((d[0] / radii[0]).powi(2) + (d[1] / radii[1]).powi(2)).sqrt();
                let side = (n - narrow) * radii[0].min(radii[1]);
                side.max(d[2].abs() - half)
            }
        }
    }
}

fn triangle(p: V3, a: V3, b: V3, c: V3) -> f32 {
    let n = cross(sub(b, a), sub(c, a));
    let inside = |u: V3, v: V3| dot(cross(sub(v, u), n), sub(p, u)) <= 0.0;
    if inside(a, b) && inside(b, c) && inside(c, a) {
        return (dot(n, sub(p, a)) / length(n).max(1e-6)).abs();
    }
    let edge = |u: V3, v: V3| {
        let (uv, up) = (sub(v, u), sub(p, u));
        let t = (dot(up, uv) / dot(uv, uv).max(1e-6)).clamp(0.0, 1.0);
        let d = sub(up, scale(uv, t));
        dot(d, d)
    };
    edge(a, b).min(edge(b, c)).min(edge(c, a)).sqrt()
}
