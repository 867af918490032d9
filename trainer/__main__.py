"""``python -m trainer``: pretrain, train, report."""

from __future__ import annotations

import click

from trainer.report import command as report
from trainer.stage1.command import command as pretrain
from trainer.train import command as train


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train encoders of H&E patches and gene expression, and compare runs."""


main.add_command(pretrain, "pretrain")
main.add_command(train, "train")
main.add_command(report, "report")

if __name__ == "__main__":
    main()
