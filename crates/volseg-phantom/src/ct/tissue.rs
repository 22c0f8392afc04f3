//! What a voxel is made of, the label it gets and its CT number.

use super::options::Phase;
use crate::draw::Draw;

macro_rules! tissues {
    ($($name:ident $label:expr),* $(,)?) => {
        /// Material of a voxel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Tissue { $($name),* }
        impl Tissue {
            pub(crate) const COUNT: usize = [$(Self::$name),*].len();
            /// AMOS label of each tissue, in the order of the enum.
            pub(crate) const LABELS: [u8; Self::COUNT] = [$($label),*];
            const ALL: [Self; Self::COUNT] = [$(Self::$name),*];
        }
    };
}

tissues! {
    Air 0, Table 0, TableFoam 0, Skin 0, Fat 0, Muscle 0, MuscleFat 0, Visceral 0, Perirenal 0, Sinus 0, Lung 0, Cartilage 0,
    Cortical 0, Spongy 0, Disc 0, Cord 0, Heart 0, HeartWall 0, Gas 0, Stool 0, BowelWall 0, BowelFluid 0,
    Artery 0, Vein 0, PortalVein 0, Ureter 0, Effusion 0,
    Spleen 1, KidneyR 2, MedullaR 2, KidneyL 3, MedullaL 3, CystR 2, CystL 3, Gallbladder 4, Gallstone 4,
    Oesophagus 5, OesophagusGas 5, Liver 6, LiverVein 6, LiverPortal 6, LiverCyst 6, LiverLesion 6,
    StomachWall 7, StomachFluid 7, StomachFood 7, StomachGas 7, Aorta 8, AortaPlaque 8, Ivc 9, Pancreas 10,
    AdrenalR 11, AdrenalL 12, DuodenumWall 13, DuodenumFluid 13, DuodenumGas 13, Bladder 14, BladderWall 14,
    Prostate 15, Uterus 15, UterusCavity 15,
}

/// A set of tissues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set(u64);

impl Set {
    pub(crate) const fn of(list: &[Tissue]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < list.len() {
            bits |= 1 << list[i] as u64;
            i += 1;
        }
        Self(bits)
    }
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    #[inline]
    pub(crate) const fn has(self, tissue: Tissue) -> bool {
        self.0 >> tissue as u64 & 1 == 1
    }
}

/// Mean CT number and strength of the fine texture of every tissue of one scan, HU.
pub(crate) struct Numbers {
    pub(crate) mean: [f32; Tissue::COUNT],
    pub(crate) texture: [f32; Tissue::COUNT],
}

impl Numbers {
    /// Values of a phase, with the variation between patients and scanners.
    pub(crate) fn draw(phase: Phase, draw: &mut Draw) -> Self {
        let strength = draw.range(0.6, 1.35);
        // How strongly liver, spleen, kidneys and pancreas take contrast up, beside the blood.
        let own: [f32; 4] = [0; 4].map(|_| draw.factor(0.2));
        let native_liver = if draw.chance(0.12) { draw.range(5.0, 42.0) } else { draw.normal(54.0, 7.0) };
        let oral = draw.chance(0.07);
        // Drunk contrast medium, much thinned: contents as dense as the wall.
        let thinned = if draw.chance(0.25) { draw.range(15.0, 45.0) } else { 0.0 };
        let dense_bone = draw.factor(0.22);
        let fat = draw.normal(-103.0, 6.0);
        let excretion = draw.range(0.0, 1.0);
        // Blood from the legs takes contrast up late.
        let cava = draw.range(0.55, 1.1);
        // Added by contrast in each phase: native, early and late arterial, portal venous, delayed.
        let add = |arterial: f32, portal: f32, delayed: f32| match phase {
            Phase::Native => 0.0,
            Phase::Arterial => arterial * strength,
            Phase::PortalVenous => portal * strength,
            Phase::Delayed => delayed * strength,
        };
        let medulla = add(25.0, 115.0, 110.0);
        let mut spread = |base: f32, sd: f32| draw.normal(base, sd);
        let blood = spread(42.0, 4.0);
        let kidney = spread(32.0, 4.0);
        let liver = native_liver + spread(add(12.0, 55.0, 38.0) * own[0], 4.0);
        let portal = blood + add(55.0, 125.0, 70.0);
        let mut texture = [5.0; Tissue::COUNT];
        let mean = Tissue::ALL.map(|tissue| {
            use Tissue::*;
            let (hu, t) = match tissue {
                Air => (-1000.0, 3.0),
                Table => (spread(250.0, 120.0), 60.0),
                TableFoam => (spread(-930.0, 30.0), 10.0),
                Skin => (spread(10.0, 20.0), 10.0),
                Fat => (fat, 5.0),
                Visceral => (fat + spread(4.0, 4.0), 7.0),
                Perirenal => (fat + spread(3.0, 3.0), 6.0),
                Sinus => (fat + spread(25.0, 15.0), 15.0),
                Muscle => (spread(48.0, 7.0) + add(3.0, 10.0, 10.0), 8.0),
                MuscleFat => (spread(-45.0, 20.0), 12.0),
                Lung => (spread(-850.0, 35.0), 25.0),
                Cartilage => (spread(105.0, 15.0), 14.0),
                Cortical => (420.0 * dense_bone + spread(0.0, 50.0), 60.0),
                Spongy => (150.0 * dense_bone + spread(10.0, 20.0), 45.0),
                Disc => (spread(82.0, 12.0), 8.0),
                Cord => (spread(18.0, 6.0), 6.0),
                Heart => (blood + add(190.0, 110.0, 65.0), 5.0),
                HeartWall => (spread(48.0, 4.0) + add(50.0, 55.0, 40.0), 5.0),
                Gas => (spread(-960.0, 25.0), 10.0),
                Stool => (spread(25.0, 20.0) + if oral { 80.0 } else { 0.0 }, 40.0),
                BowelWall => (spread(38.0, 6.0) + add(35.0, 60.0, 40.0), 6.0),
                BowelFluid => (spread(15.0, 8.0) + if oral { spread(180.0, 40.0) } else { 0.0 }, 10.0),
                Artery => (blood + add(240.0, 115.0, 70.0), 5.0),
                Vein => (blood + add(35.0, 100.0, 70.0), 5.0),
                PortalVein | LiverPortal => (portal, 5.0),
                LiverVein => (blood + add(10.0, 118.0, 68.0), 5.0),
                Ureter => (if matches!(phase, Phase::Delayed) { spread(350.0, 120.0) } else { spread(8.0, 4.0) }, 6.0),
                Effusion => (spread(12.0, 6.0), 5.0),
                Spleen => (spread(45.0, 6.0) + add(65.0, 68.0, 45.0) * own[1], 5.0),
                KidneyR | KidneyL => (kidney + add(135.0, 150.0, 120.0) * own[2], 6.0),
                MedullaR | MedullaL => (kidney - 2.0 + medulla * own[2], 6.0),
                CystR | CystL | LiverCyst => (spread(6.0, 6.0), 4.0),
                Gallbladder => (spread(8.0, 7.0), 4.0),
                Gallstone => (spread(140.0, 90.0), 30.0),
                Oesophagus => (spread(38.0, 5.0) + add(20.0, 35.0, 30.0), 6.0),
                OesophagusGas => (spread(-700.0, 100.0), 60.0),
                Liver => (liver, 6.0),
                LiverLesion => {
                    (if phase == Phase::Native { liver - spread(14.0, 5.0) } else { liver - spread(40.0, 25.0) }, 9.0)
                }
                StomachWall => (spread(40.0, 6.0) + add(40.0, 62.0, 42.0), 7.0),
                StomachFluid => (spread(14.0, 8.0) + thinned + if oral { spread(150.0, 40.0) } else { 0.0 }, 6.0),
                StomachFood => (spread(30.0, 18.0) + if oral { 90.0 } else { 0.0 }, 35.0),
                StomachGas => (spread(-970.0, 20.0), 8.0),
                Aorta => (blood + add(255.0, 112.0, 68.0), 5.0),
                AortaPlaque => (spread(500.0, 150.0), 120.0),
                Ivc => (blood + add(30.0, 85.0, 66.0) * cava, 6.0),
                Pancreas => (spread(38.0, 8.0) + add(65.0, 58.0, 32.0) * own[3], 9.0),
                AdrenalR | AdrenalL => (spread(24.0, 8.0) + add(42.0, 48.0, 30.0), 6.0),
                DuodenumWall => (spread(38.0, 6.0) + add(38.0, 58.0, 40.0), 7.0),
                DuodenumFluid => (spread(20.0, 10.0) + if oral { spread(120.0, 50.0) } else { 0.0 }, 10.0),
                DuodenumGas => (spread(-900.0, 60.0), 20.0),
                Bladder => (spread(7.0, 4.0) + if phase == Phase::Delayed { 250.0 * excretion } else { 0.0 }, 4.0),
                BladderWall => (spread(36.0, 5.0) + add(10.0, 30.0, 35.0), 6.0),
                Prostate => (spread(42.0, 5.0) + add(20.0, 45.0, 45.0), 9.0),
                Uterus => (spread(46.0, 5.0) + add(40.0, 75.0, 60.0), 8.0),
                UterusCavity => (spread(25.0, 8.0) + add(5.0, 15.0, 15.0), 5.0),
            };
            texture[tissue as usize] = t;
            hu
        });
        let mut numbers = Self { mean, texture };
        // Both kidneys are fed alike.
        numbers.mean[Tissue::KidneyL as usize] = numbers.mean[Tissue::KidneyR as usize];
        numbers
    }
}
