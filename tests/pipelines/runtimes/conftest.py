"""Models that several tests use, made once."""

from __future__ import annotations

import pytest

from tests.pipelines.runtimes import balls, made


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory):
    return made.write_bundle(tmp_path_factory.mktemp("runtimes") / "bundle")


@pytest.fixture(scope="session")
def nnunet_folder(tmp_path_factory):
    return made.write_nnunet(tmp_path_factory.mktemp("runtimes") / "nnunet")


@pytest.fixture(scope="session")
def onnx_folder(tmp_path_factory):
    return balls.write_onnx(tmp_path_factory.mktemp("runtimes") / "onnx")
