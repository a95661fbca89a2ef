"""What the rules look up, by topic; no rule is here."""


include: "common/settings.smk"
include: "common/rows.smk"
include: "common/predictions.smk"
include: "common/pages.smk"
include: "common/asked.smk"
include: "common/endings.smk"
