use crate::{Labels, labels::View};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Half-open box of voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoxelBox {
    /// First voxel along each axis.
    pub low: [usize; 3],
    /// One past the last voxel.
    pub high: [usize; 3],
}

impl VoxelBox {
    const NONE: Self = Self { low: [usize::MAX; 3], high: [0; 3] };

    fn join(&mut self, other: &Self) {
        for a in 0..3 {
            self.low[a] = self.low[a].min(other.low[a]);
            self.high[a] = self.high[a].max(other.high[a]);
        }
    }

    /// The smallest box around some boxes; `None` if there are none.
    pub fn around<'a>(boxes: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut all = Self::NONE;
        boxes.for_each(|b| all.join(b));
        (all.high[0] > 0).then_some(all)
    }

    /// Voxels along each axis.
    #[must_use]
    pub fn size(&self) -> [usize; 3] {
        [0, 1, 2].map(|a| self.high[a].saturating_sub(self.low[a]))
    }
}

/// The voxels that have one id in the ground truth and one in the prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Id in the ground truth.
    pub gt: u16,
    /// Id in the prediction.
    pub pred: u16,
    /// How many voxels.
    pub count: u64,
    /// Box around them.
    pub bounds: VoxelBox,
}

/// Neighbouring voxels of a row with one pair of ids.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) x: u32,
    /// One past the last voxel.
    pub(crate) end: u32,
    pub(crate) y: u32,
    pub(crate) z: u32,
}

/// What one pass over two maps finds.
pub(crate) struct Scan {
    /// Sorted by ids, without background on background.
    pub(crate) pairs: Vec<Pair>,
    /// Where the voxels of each pair are; `None` if that would take more memory than the maps allow ([`VOXELS_A_STRETCH`]).
    pub(crate) stretches: Option<Vec<Vec<Stretch>>>,
}

/// Stretches are kept while they are at least this long on average, background included: one byte for two voxels.
const VOXELS_A_STRETCH: usize = 32;

/// One pass over two maps of equal shape: all pairs of ids with counts and boxes, sorted by ids, without background on background.
#[must_use]
pub fn pairs(gt: &Labels, pred: &Labels) -> Vec<Pair> {
    scan(gt, pred).pairs
}

/// [`pairs`] and where they are.
pub(crate) fn scan(gt: &Labels, pred: &Labels) -> Scan {
    let dim = gt.dim();
    match (gt.view(), pred.view()) {
        (View::U8(g), View::U8(p)) => pass(g, p, dim),
        (View::U8(g), View::U16(p)) => pass(g, p, dim),
        (View::U16(g), View::U8(p)) => pass(g, p, dim),
        (View::U16(g), View::U16(p)) => pass(g, p, dim),
    }
}

/// A stored label id.
pub(crate) trait Id: Copy + PartialEq + Send + Sync {
    fn id(self) -> u16;
}
impl Id for u8 {
    fn id(self) -> u16 {
        u16::from(self)
    }
}
impl Id for u16 {
    fn id(self) -> u16 {
        self
    }
}

/// What is known of a pair of ids.
#[derive(Clone, Debug)]
struct Found {
    count: u64,
    bounds: VoxelBox,
    stretches: Vec<Stretch>,
}

impl Found {
    const NONE: Self = Self { count: 0, bounds: VoxelBox::NONE, stretches: Vec::new() };

    fn join(&mut self, other: Self) {
        self.count += other.count;
        self.bounds.join(&other.bounds);
        if self.stretches.is_empty() {
            self.stretches = other.stretches;
        } else {
            self.stretches.extend(other.stretches);
        }
    }
}

/// Pairs by key in front of a map: neighbouring stretches have the same few keys, so most of them hit.
struct Counter {
    recent: Vec<(u32, Found)>,
    all: BTreeMap<u32, Found>,
    /// Stretches that may still be kept, and whether none had to be left out.
    room: usize,
    complete: bool,
}

const SLOTS: usize = 256;

impl Counter {
    fn new() -> Self {
        Self { recent: vec![(0, Found::NONE); SLOTS], all: BTreeMap::new(), room: SLOTS, complete: true }
    }

    fn add(&mut self, gt: u16, pred: u16, s: Stretch) {
        let key = u32::from(gt) << 16 | u32::from(pred);
        let n = (usize::from(gt).wrapping_mul(31) ^ usize::from(pred)) % SLOTS;
        let Some((held, found)) = self.recent.get_mut(n) else { return };
        if *held != key {
            let old = (std::mem::replace(held, key), std::mem::replace(found, Found::NONE));
            Self::put(&mut self.all, old);
        }
        found.count += u64::from(s.end - s.x);
        let [x, end, y, z] = [s.x, s.end, s.y, s.z].map(|v| v as usize);
        let b = &mut found.bounds;
        b.low = [b.low[0].min(x), b.low[1].min(y), b.low[2].min(z)];
        b.high = [b.high[0].max(end), b.high[1].max(y + 1), b.high[2].max(z + 1)];
        if self.room > 0 {
            self.room -= 1;
            found.stretches.push(s);
        } else {
            self.complete = false;
        }
    }

    fn put(all: &mut BTreeMap<u32, Found>, (key, found): (u32, Found)) {
        if found.count > 0 {
            all.entry(key).or_insert(Found::NONE).join(found);
        }
    }

    fn finish(self) -> (BTreeMap<u32, Found>, bool) {
        let mut all = self.all;
        self.recent.into_iter().for_each(|r| Self::put(&mut all, r));
        if !self.complete {
            all.values_mut().for_each(|f| f.stretches = Vec::new());
        }
        (all, self.complete)
    }
}

/// End of the run of equal values that starts at `from`.
fn run_end<T: Id>(row: &[T], from: usize) -> usize {
    const BLOCK: usize = 32;
    let Some((&value, rest)) = row.get(from..).and_then(<[T]>::split_first) else { return row.len() };
    let (blocks, _) = rest.as_chunks::<BLOCK>();
    let mut n = 0;
    for block in blocks {
        // No early exit inside a block: the compiler makes one vector comparison of it.
        if !block.iter().fold(true, |all, &v| all & (v == value)) {
            break;
        }
        n += BLOCK;
    }
    n += rest.get(n..).unwrap_or(&[]).iter().take_while(|&&v| v == value).count();
    from + 1 + n
}

fn pass<G: Id, P: Id>(gt: &[G], pred: &[P], dim: [usize; 3]) -> Scan {
    let [nx, ny, nz] = dim;
    let plane = |z: usize, counter: &mut Counter| {
        counter.room += nx * ny / VOXELS_A_STRETCH;
        for y in 0..ny {
            let start = nx * (y + ny * z);
            let (Some(g), Some(p)) = (gt.get(start..start + nx), pred.get(start..start + nx)) else { return };
            let (mut x, mut g_end, mut p_end) = (0, 0, 0);
            while x < nx {
                if g_end == x {
                    g_end = run_end(g, x);
                }
                if p_end == x {
                    p_end = run_end(p, x);
                }
                let end = g_end.min(p_end);
                if let (Some(a), Some(b)) = (g.get(x), p.get(x))
                    && (a.id() != 0 || b.id() != 0)
                {
                    let [x, end, y, z] = [x, end, y, z].map(|v| v as u32);
                    counter.add(a.id(), b.id(), Stretch { x, end, y, z });
                }
                x = end;
            }
        }
    };
    let (all, complete) = (0..nz)
        .into_par_iter()
        .with_min_len(8)
        .fold(Counter::new, |mut counter, z| {
            plane(z, &mut counter);
            counter
        })
        .map(Counter::finish)
        .reduce(
            || (BTreeMap::new(), true),
            |(mut a, whole), (b, also)| {
                b.into_iter().for_each(|found| Counter::put(&mut a, found));
                (a, whole && also)
            },
        );
    let (mut pairs, mut stretches) = (Vec::new(), Vec::new());
    for (key, found) in all {
        let Found { count, bounds, .. } = found;
        pairs.push(Pair { gt: (key >> 16) as u16, pred: (key & 0xffff) as u16, count, bounds });
        stretches.push(found.stretches);
    }
    Scan { pairs, stretches: complete.then_some(stretches) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::{Bits, crop};
    use volseg_geometry::{Affine, AnyVolume, Volume};

    fn labels(dim: [usize; 3], id: impl Fn([usize; 3]) -> u8) -> Labels {
        let voxels: Vec<u8> =
            (0..dim.iter().product()).map(|n| id([n % dim[0], n / dim[0] % dim[1], n / dim[0] / dim[1]])).collect();
        let volume: Volume<u8> = Volume::new(voxels.into(), dim, Affine::from_spacing_mm([1.0; 3])).unwrap();
        Labels::new(AnyVolume::from(volume), 1.0, 0.0, "test").unwrap()
    }

    #[test]
    fn painted_stretches_are_the_voxels_of_the_pair() {
        let dim = [300, 40, 30];
        let ball = |[x, y, z]: [usize; 3], at: [usize; 3], r: usize| {
            x.abs_diff(at[0]).pow(2) / 36 + y.abs_diff(at[1]).pow(2) + z.abs_diff(at[2]).pow(2) < r * r
        };
        let gt = labels(dim, |p| if ball(p, [100, 20, 10], 9) { 1 } else { 2 * u8::from(ball(p, [210, 18, 17], 12)) });
        let pred =
            labels(dim, |p| if ball(p, [110, 19, 11], 9) { 1 } else { 3 * u8::from(ball(p, [200, 20, 15], 11)) });
        let scan = scan(&gt, &pred);
        let stretches = scan.stretches.unwrap();
        let all = VoxelBox::around(scan.pairs.iter().map(|p| &p.bounds)).unwrap();
        for id in 1..=3 {
            let of = |wanted: &dyn Fn(&Pair) -> bool| {
                Bits::painted(&all, scan.pairs.iter().zip(&stretches).filter(|(p, _)| wanted(p)).flat_map(|(_, s)| s))
            };
            assert_eq!(of(&|p| p.gt == id), crop(gt.view(), dim, &all, &[id]));
            assert_eq!(of(&|p| p.pred == id), crop(pred.view(), dim, &all, &[id]));
        }
    }

    #[test]
    fn stretches_of_noise_are_not_kept() {
        let noise = labels([64, 40, 30], |[x, y, z]| ((x * 7919 + y * 104_729 + z * 31) % 5) as u8);
        let found = scan(&noise, &noise);
        assert!(found.stretches.is_none());
        assert_eq!(
            found.pairs.iter().map(|p| p.count).sum::<u64>(),
            (0..64 * 40 * 30).filter(|n| noise.view().id(*n) != 0).count() as u64
        );
    }
}
