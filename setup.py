"""What pyproject.toml cannot say: files of data/ travel inside the package that is built, where effi/paths.py looks."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithData(build_py):
    """Modules, and beside them the manifest of data sets and the papers' claims."""

    def run(self) -> None:
        super().run()
        # An editable installation is the clone itself.
        if not self.editable_mode:
            for file in (Path("data/manifest.toml"), *Path("data/papers").glob("*.toml")):
                place = Path(self.build_lib, "effi", "carried", file.relative_to("data"))
                self.mkpath(str(place.parent))
                self.copy_file(str(file), str(place))


setup(cmdclass={"build_py": WithData})
