#!/usr/bin/env python3
"""nnU-Net v2 on the split of one run of `volseg experiment`: test Dice on the same pictures, with the same labels.

    pip install nnunetv2 torch
    nice -n 19 scripts/peers/nnunet.py --data BUSI_DIR --split OUT_DIR/runs/stage1-10-s0/split.json --organ-key breast_tumor \
        --out /tmp/nnunet-busi --epochs 20 --iterations 40 --spacing 2

The pictures of part Train are the training part of fold 0, those of part Validation its validation part; no picture of another part is
written into nnU-Net's data set. Fingerprint, plan, preprocessing, `2d` training (final weights, not the best), mirroring and sliding
window are nnU-Net's own. Not its own, so that it ends on a CPU: --epochs of --iterations batches (1000 of 250), the learning rate falling
over as many; a fifth as many validation batches; and with --spacing 2 a plan for pictures of half the width and height (its masks are
enlarged again before counting). Pictures of part Test with an empty mask are left out; Dice at the picture's own size, mean over pictures.
"""
import argparse, contextlib, importlib.metadata, json, os, pathlib, platform, random, resource, sys, time


def clocks():
    """Wall and CPU seconds of this process and of its children that have ended."""
    uses = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in uses)


def write_data_set(folder, data, parts, organ):
    """Labelled pictures as nnU-Net wants them: 8-bit grey, labels 0 and 1."""
    import numpy
    from PIL import Image
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    labelled = [n for n in sorted(parts) if parts[n] in ("Train", "Validation")]
    for name in labelled:
        Image.open(data / "images" / f"{name}.png").convert("L").save(folder / "imagesTr" / f"{name}_0000.png")
        mask = numpy.asarray(Image.open(data / "masks" / f"{name}.png").convert("L")) > 0
        Image.fromarray(mask.astype("uint8")).save(folder / "labelsTr" / f"{name}.png")
    about = {"channel_names": {"0": "grey"}, "labels": {"background": 0, organ: 1}, "numTraining": len(labelled), "file_ending": ".png",
             "overwrite_image_reader_writer": "NaturalImage2DIO"}
    (folder / "dataset.json").write_text(json.dumps(about))
    return about


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--data", type=pathlib.Path, required=True, help="folder with images/ and masks/")
    p.add_argument("--split", type=pathlib.Path, required=True)
    p.add_argument("--organ-key", required=True)
    p.add_argument("--out", type=pathlib.Path, required=True, help="folder that does not exist yet")
    p.add_argument("--epochs", type=int, required=True)
    p.add_argument("--iterations", type=int, required=True, help="batches an epoch")
    p.add_argument("--spacing", type=float, default=1, help="pixels of the picture per pixel of the plan (1: nnU-Net's own)")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    parts = json.loads(a.split.read_text())[a.organ_key]
    a.out.mkdir(parents=True)
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(a.out.resolve() / name)
    os.environ.update(nnUNet_n_proc_DA="1", nnUNet_def_n_proc="1", nnUNet_compile="f")
    os.environ.update({f"{k}_NUM_THREADS": str(a.threads) for k in ("OMP", "MKL", "OPENBLAS")})
    start = clocks()

    import numpy, torch
    from PIL import Image
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset, plan_experiment_dataset, preprocess_dataset
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    torch.set_num_threads(a.threads)
    random.seed(a.seed), numpy.random.seed(a.seed), torch.manual_seed(a.seed)

    name = "Dataset001_Peer"
    about = write_data_set(a.out / "raw" / name, a.data, parts, a.organ_key)
    part = lambda kind: [n for n in sorted(parts) if parts[n] == kind]
    with contextlib.redirect_stdout(sys.stderr):
        extract_fingerprint_dataset(1, num_processes=1)
        spacing = None if a.spacing == 1 else (999.0, a.spacing, a.spacing)  # 999: between "slices", as nnU-Net's reader of PNGs says
        plan_experiment_dataset(1, overwrite_target_spacing=spacing)
        preprocess_dataset(1, configurations=["2d"], num_processes=[1])
    ready = a.out / "preprocessed" / name
    (ready / "splits_final.json").write_text(json.dumps([{"train": part("Train"), "val": part("Validation")}]))
    plans = json.loads((ready / "nnUNetPlans.json").read_text())
    plan = plans["configurations"]["2d"]
    planned = clocks()

    device = torch.device("cpu")
    os.environ["nnUNet_n_proc_DA"] = "0"  # augmentation in this process; the planner needs 1
    torch.set_num_threads(a.threads)
    with contextlib.redirect_stdout(sys.stderr):
        trainer = nnUNetTrainer(plans | {"continue_training": False}, "2d", 0, about, device)
        trainer.num_epochs, trainer.num_iterations_per_epoch = a.epochs, a.iterations
        trainer.num_val_iterations_per_epoch = max(1, a.iterations // 5)
        trainer.run_training()
    trained = clocks()

    truths = {n: numpy.asarray(Image.open(a.data / "masks" / f"{n}.png").convert("L")) > 0 for n in part("Test")}
    truths = {n: t for n, t in truths.items() if t.any()}
    (a.out / "test").mkdir()
    (a.out / "predicted").mkdir()
    for n in truths:
        Image.open(a.data / "images" / f"{n}.png").convert("L").save(a.out / "test" / f"{n}_0000.png")
    with contextlib.redirect_stdout(sys.stderr):
        trainer.set_deep_supervision_enabled(False)
        predictor = nnUNetPredictor(device=device, allow_tqdm=False)
        predictor.manual_initialization(trainer.network, trainer.plans_manager, trainer.configuration_manager, [trainer.network.state_dict()],
                                        about, "nnUNetTrainer", trainer.inference_allowed_mirroring_axes)
        predictor.predict_from_files_sequential(str(a.out / "test"), str(a.out / "predicted"))
    end = clocks()

    dice, iou = [], []
    for n, truth in truths.items():
        found = numpy.asarray(Image.open(a.out / "predicted" / f"{n}.png")) > 0
        assert found.shape == truth.shape, n
        both = (found & truth).sum()
        dice.append(2 * both / (found.sum() + truth.sum()))
        iou.append(both / (found | truth).sum())
    (a.out / "dice.json").write_text(json.dumps(dict(zip(truths, map(float, dice)))))

    spent = lambda x, y: " / ".join(f"{(v - u) / 60:.1f}" for u, v in zip(x, y))
    version = importlib.metadata.version
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    print(f"{cpu}, {a.threads} thread(s), load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, torch {torch.__version__}. "
          f"nnU-Net's own schedule is 1000 epochs of 250 batches: {250_000 / (a.epochs * a.iterations):.0f} times as many, about "
          f"{250_000 / (a.epochs * a.iterations) * (trained[1] - planned[1]) / 3600:.0f} hours of CPU here.\n")
    print("| tool | labelled | validation | epochs x batches | batch | patch | spacing | test pictures | Dice | IoU | wall / CPU, min | of these plan, training, test |")
    print("| --- " * 12 + "|")
    print(f"| nnU-Net {version('nnunetv2')} 2d | {len(part('Train'))} | {len(part('Validation'))} | {a.epochs} x {a.iterations} | {plan['batch_size']} | "
          f"{' x '.join(map(str, plan['patch_size']))} | {a.spacing:g} | {len(truths)} | {numpy.mean(dice):.4f} | {numpy.mean(iou):.4f} | {spent(start, end)} | "
          f"{spent(start, planned)}, {spent(planned, trained)}, {spent(trained, end)} |")


if __name__ == "__main__":
    main()
