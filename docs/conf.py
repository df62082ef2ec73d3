"""How Sphinx makes the site; tools/book.py calls it on a copy of the tree. Outputs are the stored ones."""

import os

project = "Baize, the notebook course"
author = "The course's authors"
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = ["README.md", "*/*.md", "notebooks/*.ipynb"]
exclude_patterns = ["baize_nb/**", "data/corpus/**"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_heading_anchors = 4
myst_enable_extensions = []  # no formulas in dollars: a price is no formula
html_theme = "sphinx_book_theme"
html_title = project
html_show_sourcelink = False
html_theme_options = {"home_page_in_toc": True, "show_navbar_depth": 1, "use_download_button": True}
if address := os.environ.get("BAIZE_ADDRESS"):
    html_theme_options |= {
        "repository_url": address,
        "repository_branch": "main",
        "use_repository_button": True,
        "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    }
