"""Settings of sphinx; read by it alone."""

from __future__ import annotations

import effi

project = "effi"
version = release = effi.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "docs.rendering"]
# In the file system a page may not fetch another, from which search would show some lines.
html_show_search_summary = False
html_show_copyright = html_copy_source = html_domain_indices = False

html_theme = "furo"
html_title = "effi"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
highlight_language = "none"

# What is shown was computed when the records were made.
nb_execution_mode = "off"
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"
add_module_names = False
autodoc_typehints_format = "short"
# A method without words of its own is told by its class, not in those of a library.
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
maximum_signature_line_length = 110
toc_object_entries = False
