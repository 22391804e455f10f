"""The policy in column form: measures, conditions and decisions of many exchanges at once, for replay at scale (`columns`)."""
