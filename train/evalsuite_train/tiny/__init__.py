"""The data of the tiny ladder: six kinds of task from small grammars, in Chinese and English."""
