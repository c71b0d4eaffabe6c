"""A Prometheus server of Debian's package for tests, which scrapes an exporter that counts."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.pulls.servers import Answer, serving

POWER = "DCGM_FI_DEV_POWER_USAGE"
UTILIZATION = "DCGM_FI_DEV_GPU_UTIL"
SETTINGS = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: dcgm
    static_configs: [{{targets: ["{target}"]}}]
"""
HOST = "ald01"
GPUS = 2
START_S = 30


@contextmanager
def started(folder: Path, *options: str, samples: int = 4) -> Iterator[str]:
    """A server that has so many samples of each board at least, for as long as it is needed."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.fail(
            "prometheus is not there: install it, on Debian by `apt-get install prometheus`"
        )
    count = 0

    def exporter(_: object) -> Answer:
        nonlocal count
        count += 1
        lines = [f"# TYPE {POWER} gauge", f"# TYPE {UTILIZATION} gauge"]
        for gpu in range(GPUS):
            labels = f'{{gpu="{gpu}",UUID="GPU-{gpu}",modelName="H100",Hostname="{HOST}"}}'
            lines += [f"{POWER}{labels} {300 + 100 * gpu + count}", f"{UTILIZATION}{labels} 50"]
        return Answer(
            "\n".join([*lines, ""]).encode(), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    with serving(exporter) as target:
        settings = folder / "prometheus.yml"
        settings.write_text(SETTINGS.format(target=target.url.removeprefix("http://")))
        log = (folder / "log").open("w+")
        process = subprocess.Popen(
            [
                program,
                f"--config.file={settings}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
                *options,
            ],
            stdout=log,
            stderr=log,
        )
        try:
            url = _address(folder / "log", process)
            until = time.monotonic() + START_S
            while len(raw(url, POWER, "0")) < samples and time.monotonic() < until:
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(10)
            log.close()


def _address(log: Path, process: "subprocess.Popen[bytes]") -> str:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"127\.0\.0\.1:[1-9]\d+", log.read_text()):
            url = f"http://localhost:{found[0].rpartition(':')[2]}"
            try:
                if httpx.get(f"{url}/-/ready").status_code == 200:
                    return url
            except httpx.TransportError:
                pass
        time.sleep(0.1)
    pytest.fail(f"prometheus did not start: {log.read_text()}")


def raw(url: str, metric: str, gpu: str) -> list[tuple[float, float]]:
    """Samples as the server stored them, (seconds since 1970, value), not laid on steps."""
    answer = httpx.get(
        f"{url}/api/v1/query", params={"query": f'{metric}{{gpu="{gpu}"}}[1h]'}
    ).json()
    return [
        (float(at), float(value))
        for series in answer["data"]["result"]
        for at, value in series["values"]
    ]
