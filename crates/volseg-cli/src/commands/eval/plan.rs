//! What a run was asked for, understood.

use super::{AbsentArg, Args, EmptyArg, Hd95Arg, MeanOver, MissingArg, RuleArg, SurfaceArg, table};
use crate::{exit::usage_error, global::Global};
use volseg_metrics::{GridRules, Hd95, PRESETS, Penalty, Preset, Rule, Selection, Settings, Surface};

/// All that decides a number, and what is to be made of the numbers.
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) selection: Selection,
    pub(super) table: table::Table,
    pub(super) grid: GridRules,
    pub(super) rule: Rule,
    pub(super) mean_over: MeanOver,
    pub(super) bootstrap: usize,
    pub(super) seed: u64,
    pub(super) preset: Option<String>,
    pub(super) missing_zero: bool,
    /// `--spacing` has two numbers.
    pub(super) spacing_of_pictures: bool,
    pub(super) flat: bool,
    pub(super) compares: bool,
    /// Most bytes of memory to use.
    pub(super) memory: Option<u64>,
    /// Draw the worst slices.
    pub(super) pictures: bool,
}

impl Plan {
    /// # Errors
    /// Options that cannot be meant are wrong use.
    pub(super) fn new(args: &Args, global: &Global) -> anyhow::Result<Self> {
        let preset = args.preset.as_deref().map(preset).transpose()?;
        let mut settings = preset.map_or_else(Settings::default, Settings::of);
        apply(args, &mut settings)?;
        let wrong = |option: &'static str| move |e: anyhow::Error| usage_error(format!("{option}: {e:#}"));
        let mut table = match &args.labels {
            Some(given) => table::labels(given).map_err(wrong("--labels"))?,
            None => table::Table::default(),
        };
        if let Some(r) = &args.regions {
            table::regions(r, &mut table).map_err(wrong("--regions"))?;
        }
        settings.ignore = args.ignore_label.or(table.ignore);
        if preset == Some(Preset::Flare22) {
            table::flare22(&table, &mut settings);
        }
        settings.table.extend(table.tolerances.clone());
        if let Some(given) = &args.tolerance_table {
            settings.table.extend(table::tolerances(given, &table).map_err(wrong("--tolerance-table"))?);
        }
        settings.check().map_err(|e| usage_error(e.to_string()))?;
        if !(args.affine_tol.is_finite() && args.affine_tol >= 0.0) {
            return Err(usage_error(format!("--affine-tol: found {}, expected 0 mm or more", args.affine_tol)));
        }
        let rule = match (args.mean, preset) {
            (Some(RuleArg::LabelThenMean), _) => Rule::LabelThenMean,
            (Some(RuleArg::CaseThenMean), _) | (None, Some(Preset::Monai)) => Rule::CaseThenMean,
            (Some(RuleArg::Pooled), _) | (None, Some(Preset::SamMed3d)) => Rule::Pooled,
            _ => Rule::LabelThenMean,
        };
        Ok(Self {
            selection: Selection {
                listed: (!table.sets.is_empty()).then(|| table.sets.clone()),
                gt_map: table::map(args.gt_map.as_deref(), args.map_strict).map_err(wrong("--gt-map"))?,
                pred_map: table::map(args.pred_map.as_deref(), args.map_strict).map_err(wrong("--pred-map"))?,
            },
            table,
            grid: GridRules {
                tolerance_mm: args.affine_tol,
                strict: args.strict_grid,
                ignore_affine: args.ignore_affine,
                resample: args.resample.is_some(),
            },
            rule,
            mean_over: args.mean_over,
            bootstrap: args.bootstrap,
            seed: global.seed,
            preset: args.preset.clone(),
            missing_zero: args.missing == MissingArg::Zero,
            spacing_of_pictures: args.spacing.as_ref().is_some_and(|s| s.len() == 2),
            flat: args.flat,
            compares: args.compare.is_some(),
            memory: global.memory,
            pictures: args.report.is_some(),
            settings,
        })
    }
}

fn preset(name: &str) -> anyhow::Result<Preset> {
    PRESETS.iter().find(|p| p.0 == name.replace('_', "-")).map(|p| p.1).ok_or_else(|| {
        let known: Vec<&str> = PRESETS.iter().map(|p| p.0).collect();
        usage_error(format!("--preset: found {name:?}, expected one of {}", known.join(", ")))
    })
}

/// Options that say more than the preset.
fn apply(args: &Args, s: &mut Settings) -> anyhow::Result<()> {
    if let Some(surface) = args.surface {
        (s.surface, s.hd95) = match surface {
            SurfaceArg::Surfel => (Some(Surface::Surfel), Hd95::SurfelMax),
            SurfaceArg::Voxel => (Some(Surface::Voxel), Hd95::VoxelMax),
            SurfaceArg::Mesh => {
                return Err(usage_error(
                    "--surface: found mesh, expected surfel or voxel: distances between triangle meshes are not built in",
                ));
            }
        };
    }
    if let Some(hd95) = args.hd95 {
        s.hd95 = match hd95 {
            Hd95Arg::SurfelMax => Hd95::SurfelMax,
            Hd95Arg::VoxelMax => Hd95::VoxelMax,
            Hd95Arg::Pooled => Hd95::Pooled,
        };
    }
    let sorted = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v.dedup();
        v
    };
    if s.surface.is_none() && (args.tolerance.is_some() || args.tolerance_table.is_some() || args.hd_percentile.is_some()) {
        s.surface = Some(Surface::Surfel);
    }
    if let Some(t) = &args.tolerance {
        s.tolerances = sorted(t.clone());
    }
    if let Some(p) = &args.hd_percentile {
        // hd95 is what others look for.
        s.percentiles = sorted([p.as_slice(), &[95.0]].concat());
    }
    if let Some(e) = args.empty {
        s.empty_is_one = e == EmptyArg::One;
    }
    if let Some(a) = args.gt_absent {
        s.skip_absent_gt = a == AbsentArg::Skip;
    }
    if let Some(p) = &args.penalty {
        s.penalty = match (p.as_str(), p.parse()) {
            ("inf", _) => Penalty::Infinite,
            ("diagonal", _) => Penalty::Diagonal,
            (_, Ok(mm)) => Penalty::Fixed(mm),
            _ => {
                return Err(usage_error(format!("--penalty: found {p:?}, expected inf, diagonal or a number of mm")));
            }
        };
    }
    if let Some(given) = &args.spacing {
        s.spacing = Some(match given.as_slice() {
            [x, y, z] => [*x, *y, *z],
            [x, y] => [*x, *y, 1.0],
            _ => return Err(usage_error(format!("--spacing: found {} numbers, expected x,y,z or x,y", given.len()))),
        });
    }
    Ok(())
}
