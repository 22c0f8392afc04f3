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

/// One pass over two maps of equal shape: all pairs of ids with counts and boxes, sorted by ids, without background on background.
#[must_use]
pub fn pairs(gt: &Labels, pred: &Labels) -> Vec<Pair> {
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

/// Counts by key in front of a map: neighbouring runs have the same few keys, so most of them hit.
struct Counter {
    recent: Vec<(u32, u64, VoxelBox)>,
    all: BTreeMap<u32, (u64, VoxelBox)>,
}

const SLOTS: usize = 256;

impl Counter {
    fn new() -> Self {
        Self { recent: vec![(0, 0, VoxelBox::NONE); SLOTS], all: BTreeMap::new() }
    }

    fn add(&mut self, gt: u16, pred: u16, x: usize, end: usize, y: usize, z: usize) {
        let key = u32::from(gt) << 16 | u32::from(pred);
        let n = (usize::from(gt).wrapping_mul(31) ^ usize::from(pred)) % SLOTS;
        let Some(slot) = self.recent.get_mut(n) else { return };
        if slot.0 != key {
            let (old, count, bounds) = std::mem::replace(slot, (key, 0, VoxelBox::NONE));
            Self::put(&mut self.all, old, count, &bounds);
        }
        slot.1 += (end - x) as u64;
        let b = &mut slot.2;
        b.low = [b.low[0].min(x), b.low[1].min(y), b.low[2].min(z)];
        b.high = [b.high[0].max(end), b.high[1].max(y + 1), b.high[2].max(z + 1)];
    }

    fn put(all: &mut BTreeMap<u32, (u64, VoxelBox)>, key: u32, count: u64, bounds: &VoxelBox) {
        if count > 0 {
            let entry = all.entry(key).or_insert((0, VoxelBox::NONE));
            entry.0 += count;
            entry.1.join(bounds);
        }
    }

    fn finish(mut self) -> BTreeMap<u32, (u64, VoxelBox)> {
        for (key, count, bounds) in &self.recent {
            Self::put(&mut self.all, *key, *count, bounds);
        }
        self.all
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

fn pass<G: Id, P: Id>(gt: &[G], pred: &[P], dim: [usize; 3]) -> Vec<Pair> {
    let [nx, ny, nz] = dim;
    let plane = |z: usize, counter: &mut Counter| {
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
                    counter.add(a.id(), b.id(), x, end, y, z);
                }
                x = end;
            }
        }
    };
    let all = (0..nz)
        .into_par_iter()
        .with_min_len(8)
        .fold(Counter::new, |mut counter, z| {
            plane(z, &mut counter);
            counter
        })
        .map(Counter::finish)
        .reduce(BTreeMap::new, |mut a, b| {
            for (key, (count, bounds)) in b {
                Counter::put(&mut a, key, count, &bounds);
            }
            a
        });
    let pair = |(key, (count, bounds)): (u32, (u64, VoxelBox))| Pair {
        gt: (key >> 16) as u16,
        pred: (key & 0xffff) as u16,
        count,
        bounds,
    };
    all.into_iter().map(pair).collect()
}
