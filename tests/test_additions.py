"""Each addition that users make is one file: a module of theirs, named by --plugin, with the project unchanged."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import torchvision

CHECKOUT = Path(__file__).resolve().parent.parent
ADDITIONS = {
    "frozen_task": '''
        """A frozen task on VOC images: is there a person? By the nearest training image."""
        import numpy as np

        from benchmarks import tasks
        from benchmarks.data.vocxml import read_xml
        from benchmarks.tasks import Metric, Result, Settings, Task
        from benchmarks.tasks.compute.features import features_of


        def settings(setup):
            return Settings(values={"nearest": 1}, precision="fp32")


        def split(context, part):
            folder, section = context.root.folder("voc"), context.root.section("voc")
            names = [
                (folder / year, name)
                for year, image_set in section[part]
                for name in (folder / year / "ImageSets" / "Main" / f"{image_set}.txt").read_text().split()
            ]
            first = section["classes"][0]
            images = [year / "JPEGImages" / f"{name}.jpg" for year, name in names]
            xml = [read_xml(year / "Annotations" / f"{name}.xml") for year, name in names]
            truth = np.array([any(one.name == first for one in image.objects) for image in xml])
            x = features_of(context.backbone(), images, section["fingerprint"], part, context.spec.profile)
            return x, truth


        def run(context):
            (train, y), (test, truth) = split(context, "train"), split(context, "test")
            nearest = (test @ train.T / np.linalg.norm(train, axis=1)).argmax(1)
            accuracy = 100 * float((y[nearest] == truth).mean())
            return Result(metrics={"accuracy": accuracy}, test_images=len(test), config={}, precision="fp32")


        tasks.register(Task(
            name="voc-presence", title="presence", kind="frozen", layout="voc", version=1,
            metrics=(Metric(key="accuracy", label="accuracy"),), deterministic=True, reference="none",
            settings=settings, run=run,
        ))
        ''',
    "linear_style": '''
        """A style of linear evaluation: MoCo's in half of the epochs."""
        from benchmarks.tasks.linear_sgd import LinearStyle, register_style

        half = LinearStyle(epochs=50, learning_rates=(30.0,), schedule="step", milestones=(30, 40), gamma=0.1)
        register_style("half", half, source="a colleague")
        ''',
    "detection_protocol": '''
        """A detection protocol: VOC FPN for half of the iterations."""
        from pathlib import Path

        from benchmarks import tasks
        from transfer.detection.protocol_files import PROTOCOLS

        path = Path(__file__).with_name("voc_fpn_half.yaml")
        path.write_text(f"""
        _BASE_: {PROTOCOLS / 'voc_fpn_24k.yaml'}
        SOLVER:
          MAX_ITER: 12000
          STEPS: (9000, 11000)
        TRANSFER:
          TITLE: VOC FPN half
          LAYOUT: voc
          VERSION: 1
          REFERENCE: half of voc-fpn-24k
          METRICS: {{bbox/AP: AP}}
        """.replace("\\n        ", "\\n"))
        tasks.register(tasks.detection_task(path))
        ''',
    "family": '''
        """A family of checkpoints: a ResNet under "body." in {"net": …}."""
        from transfer.checkpoints import families
        from transfer.checkpoints.families.layout import Layout

        families.register(Layout(
            name="bodies", title="a colleague's", known_from="a test", inside=(("weights_of_mine",),),
            networks={"": "body."},
        ).family())
        ''',
    "method_and_suite": '''
        """A method that predicts the image's mean colour, its preset, and a suite of it beside the random network."""
        import dataclasses

        import torch
        from torch import nn

        from benchmarks import suites
        from benchmarks.suites import Row, Suite, SuiteColumn
        from pretrain import methods, presets
        from pretrain.methods import Method, MethodConfig


        @dataclasses.dataclass(frozen=True, kw_only=True)
        class MeanColorConfig(MethodConfig):
            """No settings."""


        class MeanColor(Method):
            """One linear layer to the mean of each channel."""

            views = 1
            Config = MeanColorConfig

            def __init__(self, config, backbone, sizes):
                super().__init__(config, backbone, sizes)
                self.head = nn.Linear(sizes.feature_dim, 3)

            def forward(self, batch, progress):
                (x,) = batch.views
                return {"loss": (self.head(self.backbone(x)) - x.mean((2, 3))).square().mean()}


        methods.register("meancolor", MeanColor)
        smoke = presets.PRESETS["smoke-simclr"]
        presets.register("smoke-meancolor", dataclasses.replace(smoke, method=MeanColorConfig(), steps=2))
        suites.register(Suite(
            name="colors", title="mean colour beside nothing", profile="smoke",
            rows=(Row(label="nothing", preset="smoke-random", flags=("--backbone", "resnet18")),
                  Row(label="color", preset="smoke-meancolor", flags=("--backbone", "resnet18"), seeds=(0, 1))),
            columns=(SuiteColumn(task="knn"), SuiteColumn(task="linear")),
        ))
        ''',
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The additions as modules of a user's folder, the smoke data, and a checkpoint of the new family."""
    folder = tmp_path_factory.mktemp("user")
    for name, code in ADDITIONS.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(code))
    torch.manual_seed(0)
    state = torchvision.models.resnet50().state_dict()
    torch.save({"weights_of_mine": {f"body.{key}": value for key, value in state.items()}}, folder / "theirs.pth")
    run(folder, "prepare", "emoji", "--profile", "smoke")
    return folder


def run(folder, *words):
    environment = os.environ | {"RESULTS_DIR": str(folder / "results"), "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=CHECKOUT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def records(folder):
    return [json.loads(path.read_text()) for path in (folder / "results" / "runs").glob("*/*.json")]


@pytest.mark.slow
def test_a_task_a_style_a_protocol_and_a_family_of_the_users(place):
    names = ("frozen_task", "linear_style", "detection_protocol", "family")
    plugins = [word for name in names for word in ("--plugin", name)]
    said = run(
        place,
        "run",
        *plugins,
        "--task",
        "voc-presence",
        "linear-sgd-half",
        "voc-fpn-half",
        "--checkpoint",
        str(place / "theirs.pth"),
        "--data",
        str(place / "results" / "data" / "emoji-smoke"),
        "--profile",
        "smoke",
    )
    assert "presence accuracy" in said and "VOC FPN half AP" in said and "3 new runs" in said
    found = {record["spec"]["task"]: record for record in records(place)}
    assert set(found) == {"voc-presence", "linear-sgd-half", "voc-fpn-half"}
    assert found["linear-sgd-half"]["config"]["epochs"] == 1 and "half linear top-1" in said
    assert found["voc-presence"]["checkpoint"]["family"] == "bodies"
    assert found["voc-fpn-half"]["config"]["TRANSFER"]["PROTOCOL"] == "voc_fpn_half"
    without = run(place, "tables", "smoke", "--plugin", "frozen_task")
    assert "presence accuracy" in without and "VOC FPN half" not in without
    assert "runs of unknown tasks are left out (linear-sgd-half, voc-fpn-half): give --plugin" in without


@pytest.mark.slow
def test_a_method_and_a_suite_of_the_users_with_a_row_of_two_pretraining_runs(place):
    said = run(place, "suite", "colors", "--plugin", "method_and_suite")
    lines = [line for line in said.splitlines() if line.startswith("|")]
    rows = {line.split("|")[1].strip(): line for line in lines}
    assert {"nothing", "color"} <= set(rows) and " (2)" in rows["color"] and " ± " in rows["color"]
    assert "color: over n pretraining runs" in said
    assert "0 new runs" in run(place, "suite", "colors", "--plugin", "method_and_suite")
