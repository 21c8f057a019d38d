"""The paper that everything here implements, as BibTeX."""

CITATION = """\
@article{he2025m4ser,
  title   = {{M4SER}: Multimodal, Multirepresentation, Multitask, and Multistrategy Learning
             for Speech Emotion Recognition},
  author  = {He, Jiajun and Shi, Xiaohan and Hu, Cheng-Hung and Mi, Jinyi and Li, Xingfeng and Toda, Tomoki},
  journal = {IEEE Transactions on Audio, Speech and Language Processing},
  year    = {2025}
}"""
